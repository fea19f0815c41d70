//! The errors of `llmload merge`.

/// A reason why reports cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error("no report; pass the report of each shard")]
    NoReport,
    #[error(
        "{argument}: this is not the report of a shard; pass reports of `llmload run --shard I/N`"
    )]
    NotAShard { argument: String },
    #[error("{one} and {other} have different {what}; pass the reports of one run")]
    DifferentRuns { one: String, other: String, what: &'static str },
    #[error("{one} and {other} are both of shard {index}; pass the report of each shard once")]
    Twice { index: u32, one: String, other: String },
    #[error(
        "{} of {count} {} missing; pass the report of each shard",
        list(missing),
        if missing.len() == 1 { "is" } else { "are" }
    )]
    Missing { missing: Vec<u32>, count: u32 },
}

/// Names shards: `shard 2`, `shards 0, 3 and 7`.
pub(super) fn list(shards: &[u32]) -> String {
    /// The most numbers in a text.
    const MOST_NUMBERS: usize = 8;
    let mut numbers: Vec<String> =
        shards.iter().take(MOST_NUMBERS).map(ToString::to_string).collect();
    if let Some(more) = shards.len().checked_sub(MOST_NUMBERS).filter(|more| *more > 0) {
        numbers.push(format!("{more} more"));
    }
    match numbers.as_slice() {
        [] => "no shard".to_owned(),
        [one] => format!("shard {one}"),
        [first @ .., last] => format!("shards {} and {last}", first.join(", ")),
    }
}
