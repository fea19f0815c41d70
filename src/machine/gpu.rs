//! The values that `nvidia-smi` prints for each GPU.

/// The columns that llmload requests, in the order of the fields of [`Gpu`].
pub(super) const COLUMNS: &str =
    "index,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu";

/// The most GPUs that llmload exposes. No machine has more.
const MAX_GPUS: usize = 64;

/// A value is `None` if the GPU does not report it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    pub index: u16,
    /// The fraction of the time in which the GPU worked.
    pub utilization: Option<f64>,
    /// In bytes.
    pub memory_used: Option<f64>,
    /// In bytes.
    pub memory: Option<f64>,
    /// In watts.
    pub power: Option<f64>,
    /// In degrees Celsius.
    pub temperature: Option<f64>,
}

/// Parses one line for each GPU, without a header and without units. Returns `None` if a line has
/// another form.
pub(super) fn parse(output: &str) -> Option<Vec<Gpu>> {
    let lines = output.lines().filter(|line| !line.trim().is_empty());
    let gpus = lines.map(parse_line).collect::<Option<Vec<_>>>()?;
    let mut indexes: Vec<_> = gpus.iter().map(|gpu| gpu.index).collect();
    indexes.sort_unstable();
    // Two series with the same label would make the page invalid.
    let is_unique = indexes.is_sorted_by(|one, other| one < other);
    (is_unique && !gpus.is_empty() && gpus.len() <= MAX_GPUS).then_some(gpus)
}

fn parse_line(line: &str) -> Option<Gpu> {
    const MEBIBYTE: f64 = (1 << 20) as f64;
    let mut columns = line.split(',').map(str::trim);
    let index = columns.next()?.parse().ok()?;
    // A GPU reports `[N/A]` or `[Not Supported]` instead of a value that it does not have.
    let mut next = || {
        let text = columns.next()?;
        let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
        if text.starts_with('[') { Some(None) } else { number().map(Some) }
    };
    let gpu = Gpu {
        index,
        utilization: next()?.map(|percent| percent / 100.0),
        memory_used: next()?.map(|used| used * MEBIBYTE),
        memory: next()?.map(|memory| memory * MEBIBYTE),
        power: next()?,
        temperature: next()?,
    };
    columns.next().is_none().then_some(gpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_gpu_and_a_missing_value_is_none() {
        let gpus =
            parse("0, 87, 1024, 81920, 312.45, 61\n1, [N/A], 0, 81920, [Not Supported], 33\n");
        let first = Gpu {
            index: 0,
            utilization: Some(0.87),
            memory_used: Some(1_073_741_824.0),
            memory: Some(85_899_345_920.0),
            power: Some(312.45),
            temperature: Some(61.0),
        };
        let second = Gpu {
            index: 1,
            utilization: None,
            memory_used: Some(0.0),
            power: None,
            temperature: Some(33.0),
            ..first
        };
        assert_eq!(gpus, Some(vec![first, second]));
    }

    #[test]
    fn another_output_is_rejected() {
        let many: Vec<_> = (0..65).map(|index| format!("{index}, 1, 1, 1, 1, 1")).collect();
        let many = many.join("\n");
        for output in [
            "",
            "No devices were found\n",
            "0, 1, 2, 3, 4\n",
            "0, 1, 2, 3, 4, 5, 6\n",
            "x, 1, 2, 3, 4, 5\n",
            "0, much, 2, 3, 4, 5\n",
            "0, inf, 2, 3, 4, 5\n",
            "0, 1, 1, 1, 1, 1\n0, 1, 1, 1, 1, 1\n",
            &many,
        ] {
            assert_eq!(parse(output), None, "{output}");
        }
    }
}
