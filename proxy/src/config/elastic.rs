//! Settings of a pool that changes its size.

use std::time::Duration;

use scatterhoard_wire::Geometry;

use super::{ConfigError, Options, bad, seconds};
use crate::pool::autoscale::Settings;

/// What is drained shows its effect by then, and what fills nodes is no burst.
const EVERY_S: u64 = 300;
const LEAST_EVERY: Duration = Duration::from_secs(1);
/// Thresholds are so many percent apart, or one node more or less would cross both.
const APART: u8 = 10;

/// When nodes are added and drained without being asked: none unless a threshold says
/// so. `nodes`: how many there are to begin with.
pub(super) fn autoscale(
    options: &Options,
    full: Geometry,
    nodes: u16,
) -> Result<Option<Settings>, ConfigError> {
    let (grow, shrink) = (options.pool_grow_above, options.pool_shrink_below);
    if grow.is_none() && shrink.is_none() {
        return Ok(None);
    }
    let (grow_above, shrink_below) = (grow.unwrap_or(100), shrink.unwrap_or(0));
    if !(1..=100).contains(&grow_above) {
        return Err(bad("pool_grow_above", "must be 1 to 100 percent"));
    }
    if shrink_below > grow_above.saturating_sub(APART) {
        let why = format!("must be at least {APART} less than pool_grow_above, or 0");
        return Err(bad("pool_shrink_below", why));
    }
    let least = full.total();
    let min_nodes = options.pool_min_nodes.map_or(least, usize::from);
    if min_nodes < least {
        let why = format!("{full} needs at least {least} nodes");
        return Err(bad("pool_min_nodes", why));
    }
    let max_nodes = options.pool_max_nodes.unwrap_or(nodes).into();
    if max_nodes < min_nodes {
        return Err(bad(
            "pool_max_nodes",
            "must not be less than pool_min_nodes",
        ));
    }
    if grow.is_some() && options.pool_max_nodes.is_none() {
        let why = "must be set where pool_grow_above is: functions cost money";
        return Err(bad("pool_max_nodes", why));
    }
    Ok(Some(Settings {
        min_nodes,
        max_nodes,
        grow_above,
        shrink_below,
        every: seconds(options.pool_step_s.unwrap_or(EVERY_S)).max(LEAST_EVERY),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn from(grow: Option<u8>, shrink: Option<u8>, bounds: (u16, u16)) -> Result<Config, String> {
        let options = Options {
            nodes: Some(14),
            pool_grow_above: grow,
            pool_shrink_below: shrink,
            pool_min_nodes: Some(bounds.0),
            pool_max_nodes: Some(bounds.1),
            ..Options::default()
        };
        Config::from_options(options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_pool_keeps_its_size_unless_a_threshold_is_set() {
        assert_eq!(from(None, None, (12, 40)).unwrap().autoscale, None);
        let config = from(Some(80), Some(40), (12, 40)).unwrap();
        let scale = config.autoscale.unwrap();
        assert_eq!((scale.min_nodes, scale.max_nodes), (12, 40));
        assert_eq!((scale.grow_above, scale.shrink_below), (80, 40));
        assert_eq!((scale.every.as_secs(), config.most_nodes()), (EVERY_S, 40));
    }

    #[test]
    fn bounds_that_contradict_each_other_are_refused() {
        let error = |grow, shrink, bounds| from(grow, shrink, bounds).unwrap_err();
        let near = error(Some(50), Some(45), (12, 40));
        assert!(near.starts_with("pool_shrink_below: must be at least 10 less"));
        assert!(error(Some(0), None, (12, 40)).starts_with("pool_grow_above"));
        assert!(error(Some(80), None, (11, 40)).contains("needs at least 12 nodes"));
        assert!(error(Some(80), None, (20, 19)).starts_with("pool_max_nodes"));
        let options = Options {
            pool_grow_above: Some(80),
            ..Options::default()
        };
        let unbounded = Config::from_options(options).unwrap_err().to_string();
        assert!(unbounded.starts_with("pool_max_nodes: must be set"));
    }
}
