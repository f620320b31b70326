//! What of the matrix fits into memory; pure.

/// How a cell is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    AsAsked,
    /// With so many clients, which are more than those of the cell before.
    Fewer(usize),
    Not,
}

/// Each client needs a value of its own in the servers, and room for one.
pub(super) fn fit(bytes: usize, clients: usize, cell_before: usize, most_bytes: u64) -> Fit {
    let room = usize::try_from(most_bytes).unwrap_or(usize::MAX) / bytes.max(1);
    match room {
        room if room >= clients => Fit::AsAsked,
        room if room > cell_before => Fit::Fewer(room),
        _ => Fit::Not,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fifty_clients_with_a_hundred_megabytes_become_ten() {
        const GB: u64 = 1_000_000_000;
        assert_eq!(fit(100_000_000, 1, 0, GB), Fit::AsAsked);
        assert_eq!(fit(100_000_000, 8, 1, GB), Fit::AsAsked);
        assert_eq!(fit(100_000_000, 50, 8, GB), Fit::Fewer(10));
        assert_eq!(fit(100_000_000, 50, 10, GB), Fit::Not);
        assert_eq!(fit(2_000_000_000, 1, 0, GB), Fit::Not);
        assert_eq!(fit(10_000_000, 50, 8, GB), Fit::AsAsked);
    }

    proptest! {
        #[test]
        fn what_is_done_fits_and_is_new(
            bytes in 1usize..1 << 31,
            clients in 1usize..100,
            before in 0usize..100,
            most in 1u64..1 << 34,
        ) {
            let before = before.min(clients - 1);
            match fit(bytes, clients, before, most) {
                Fit::AsAsked => prop_assert!((bytes * clients) as u64 <= most),
                Fit::Fewer(count) => {
                    prop_assert!((bytes * count) as u64 <= most);
                    prop_assert!(before < count && count < clients);
                }
                Fit::Not => prop_assert!((bytes * (before + 1)) as u64 > most),
            }
        }
    }
}
