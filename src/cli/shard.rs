//! The shard of this process: from an option, from the environment, or from the number of this pod
//! in a `StatefulSet`.

use crate::schedule::Shard;

/// Without a shard in the option and the environment, this process sends all arrivals.
pub(super) fn of_this_process(option: Option<Shard>) -> Result<Shard, String> {
    match option {
        Some(shard) => Ok(shard),
        None => from_environment(&|name| std::env::var(name).ok(), &host_name),
    }
}

fn from_environment(
    variable: &dyn Fn(&str) -> Option<String>,
    host: &dyn Fn() -> String,
) -> Result<Shard, String> {
    if let Some(text) = variable("LLMLOAD_SHARD") {
        return text.parse().map_err(|error| format!("LLMLOAD_SHARD: {error}"));
    }
    let Some(shards) = variable("LLMLOAD_SHARDS") else { return Ok(Shard::ALL) };
    let count: u32 = shards.trim().parse().ok().filter(|count| *count > 0).ok_or_else(|| {
        format!("LLMLOAD_SHARDS: `{shards}` is not a number of shards; set a count such as 3")
    })?;
    // Pods of a `StatefulSet` are NAME-0, NAME-1 and so on.
    let host = host();
    let ordinal = host.rsplit('-').next().and_then(|ordinal| ordinal.parse::<u32>().ok());
    let ordinal = ordinal.ok_or_else(|| {
        format!(
            "LLMLOAD_SHARDS is set, but the host name `{host}` does not end in a number; set \
             LLMLOAD_SHARD=I/N instead"
        )
    })?;
    Shard::new(ordinal, count).ok_or_else(|| {
        format!(
            "the host name `{host}` means shard {ordinal}, but LLMLOAD_SHARDS is {count}; raise \
             LLMLOAD_SHARDS"
        )
    })
}

/// Returns the host name without its domain: from `HOSTNAME`, which Kubernetes sets, or else from
/// the system.
fn host_name() -> String {
    let from_system = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| from_system());
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Shard, from_environment};

    #[test]
    fn the_shard_follows_from_a_variable_or_from_the_place_in_a_stateful_set() {
        let read = |variables: &[(&str, &str)], host: &str| {
            let variable = |name: &str| {
                variables.iter().find(|(its, _)| *its == name).map(|(_, value)| (*value).to_owned())
            };
            from_environment(&variable, &|| host.to_owned())
        };
        assert_eq!(read(&[], "x"), Ok(Shard::ALL));
        assert_eq!(read(&[("LLMLOAD_SHARD", "1/3")], "x"), Ok(Shard::new(1, 3).unwrap()));
        assert_eq!(read(&[("LLMLOAD_SHARDS", "3")], "llmload-2"), Ok(Shard::new(2, 3).unwrap()));
        for (variables, host) in [
            (("LLMLOAD_SHARD", "3/3"), "x"),
            (("LLMLOAD_SHARDS", "0"), "x-0"),
            (("LLMLOAD_SHARDS", "3"), "host"),
            (("LLMLOAD_SHARDS", "3"), "llmload-3"),
        ] {
            assert!(read(&[variables], host).is_err(), "{variables:?} {host}");
        }
    }
}
