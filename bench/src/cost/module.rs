//! How much the Terraform module watches, read off its own files, so that what is said here
//! is what `terraform apply` makes. Pure.

const ALARMS: &str = include_str!("../../../deploy/terraform/modules/watch/main.tf");
const METRICS: &str = include_str!("../../../deploy/terraform/modules/watch/dashboard.tf");
/// What follows this is only there with a backing store.
const IF_BACKED: &str = "var.backing_store ?";

/// Of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) metrics: usize,
    pub(super) alarms: usize,
}

impl Watched {
    pub(super) fn of_a_pool(is_backed: bool) -> Self {
        Self {
            metrics: count(block(METRICS, "sent = concat(", "\n  )"), "\"", is_backed) / 2,
            alarms: count(
                block(ALARMS, "alarms = merge(", "\n}"),
                "metric = \"",
                is_backed,
            ),
        }
    }
}

/// What stands between the two.
fn block<'a>(file: &'a str, begin: &str, end: &str) -> &'a str {
    let rest = file.split_once(begin).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or(rest, |(block, _)| block)
}

fn count(block: &str, mark: &str, is_backed: bool) -> usize {
    let (always, backed) = block.split_once(IF_BACKED).unwrap_or((block, ""));
    let both = [always, if is_backed { backed } else { "" }];
    both.iter().map(|part| part.matches(mark).count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_counted() {
        let (plain, backed) = (Watched::of_a_pool(false), Watched::of_a_pool(true));
        assert!(METRICS.contains(IF_BACKED) && ALARMS.contains(IF_BACKED));
        assert_eq!(backed.metrics, plain.metrics + 1);
        assert_eq!(backed.alarms, plain.alarms + 1);
        // each alarm says what it is about
        let about = ALARMS.lines().filter(|l| l.trim().starts_with("about "));
        assert_eq!(about.count(), backed.alarms);
        for metric in ["\"Healthy\"", "\"Refused\""] {
            assert!(block(METRICS, "sent = concat(", "\n  )").contains(metric));
        }
    }

    #[test]
    fn blocks_end_where_they_end() {
        let file = "a = [\"x\"]\nsent = concat(\n    [\"a\", \"b\"],\n    var.backing_store ? [\"c\"] : [],\n  )\nb = [\"y\"]";
        let sent = block(file, "sent = concat(", "\n  )");
        assert_eq!(count(sent, "\"", false), 4);
        assert_eq!(count(sent, "\"", true), 6);
        assert_eq!(block(file, "none", "x"), "");
    }
}
