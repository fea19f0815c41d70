//! The groups of turns with separate metrics. Later turns have a longer history, so a prefix cache
//! matters more for them.

/// Turns with the same value of the label `turn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TurnGroup {
    First,
    Second,
    Third,
    FourthToSeventh,
    Later,
}

impl TurnGroup {
    pub const ALL: [TurnGroup; 5] = [
        TurnGroup::First,
        TurnGroup::Second,
        TurnGroup::Third,
        TurnGroup::FourthToSeventh,
        TurnGroup::Later,
    ];

    /// Returns the group of a turn, which counts from 0.
    pub fn of(turn: u32) -> TurnGroup {
        match turn {
            0 => TurnGroup::First,
            1 => TurnGroup::Second,
            2 => TurnGroup::Third,
            3..=6 => TurnGroup::FourthToSeventh,
            _ => TurnGroup::Later,
        }
    }

    /// The value of the `turn` label, which counts from 1.
    pub fn as_str(self) -> &'static str {
        match self {
            TurnGroup::First => "1",
            TurnGroup::Second => "2",
            TurnGroup::Third => "3",
            TurnGroup::FourthToSeventh => "4-7",
            TurnGroup::Later => "8+",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_belongs_to_the_group_that_contains_its_number() {
        let groups: Vec<_> = (0..9).map(|turn| TurnGroup::of(turn).as_str()).collect();
        assert_eq!(groups, ["1", "2", "3", "4-7", "4-7", "4-7", "4-7", "8+", "8+"]);
        for (index, group) in TurnGroup::ALL.into_iter().enumerate() {
            assert_eq!(group as usize, index);
        }
    }
}
