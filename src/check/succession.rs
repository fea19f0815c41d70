//! Scenarios that run one after the other. `predecessors` contains, for each scenario, the index of
//! the scenario in its `after`.

/// Returns true if one of the two scenarios starts only after the end of the other.
pub fn is_in_sequence(predecessors: &[Option<usize>], one: usize, other: usize) -> bool {
    ancestors(predecessors, one).any(|ancestor| ancestor == other)
        || ancestors(predecessors, other).any(|ancestor| ancestor == one)
}

/// Returns the highest sum of `values` of scenarios that can run at the same time. There is one
/// value for each scenario.
pub fn highest_sum(predecessors: &[Option<usize>], values: &[u64]) -> u64 {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_cached_key(|index| ancestors(predecessors, *index).count());
    let (mut of_successors, mut total) = (vec![0; values.len()], 0);
    for index in order.into_iter().rev() {
        let highest = values[index].max(of_successors[index]);
        match predecessors[index] {
            Some(before) => of_successors[before] += highest,
            None => total += highest,
        }
    }
    total
}

/// Returns the scenarios that must end before `index` starts.
fn ancestors(predecessors: &[Option<usize>], index: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(predecessors[index], |before| predecessors[*before])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_that_follow_each_other_do_not_add_up() {
        assert_eq!(highest_sum(&[None, None], &[3, 4]), 7);
        assert_eq!(highest_sum(&[None, Some(0), Some(1)], &[3, 9, 4]), 9);
        // Two scenarios start after the end of the first.
        assert_eq!(highest_sum(&[Some(1), None, Some(1)], &[3, 6, 4]), 7);
        assert!(is_in_sequence(&[None, Some(0), Some(1)], 2, 0));
        assert!(!is_in_sequence(&[Some(1), None, Some(1)], 0, 2));
    }
}
