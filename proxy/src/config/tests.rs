use std::path::Path;

use super::*;
use crate::profile::{self, Gap, Profile, Spread};

fn from_toml(text: &str) -> Result<Config, ConfigError> {
    Options::from_toml(Path::new("s.toml"), text).and_then(Config::from_options)
}

fn error(text: &str) -> String {
    from_toml(text).unwrap_err().to_string()
}

#[test]
fn defaults_are_a_pool_on_this_machine() {
    let config = from_toml("").unwrap();
    assert_eq!(config.functions, Functions::Local);
    assert_eq!(
        (config.nodes, config.listen.to_string().as_str()),
        (14, "127.0.0.1:6379")
    );
    assert_eq!(config.function_names()[13], "scatterhoard-node-013");
}

#[test]
fn an_unknown_setting_is_named_with_its_line_and_the_nearest_one() {
    let text = "# comment\nnodes = 20\nhot_teir_mb = 3\n";
    assert_eq!(
        error(text),
        "s.toml, line 3: unknown setting `hot_teir_mb`, did you mean `hot_tier_mb`?"
    );
    assert_eq!(error("zzz = 1"), "s.toml, line 1: unknown setting `zzz`");
    assert!(error("hot-tier-mb = 1").ends_with("did you mean `hot_tier_mb`?"));
}

#[test]
fn wrong_values_say_what_would_be_right() {
    assert!(error("nodes = \"many\"").contains("line 1"));
    assert_eq!(error("nodes = 11"), "nodes: 10+2 needs at least 12 nodes");
    assert!(error("data_parity = \"ten\"").starts_with("data_parity: "));
    assert_eq!(
        error("node_memory_mb = 64"),
        "node_memory_mb: must be 128 to 10240, as on Lambda"
    );
    assert_eq!(
        error("lambda_endpoint = \"here\""),
        "lambda_endpoint: must be an http(s) URL, or `aws`"
    );
    assert!(error("maxmemory_policy = \"mru\"").contains("allkeys-lru"));
    assert!(error("cell_kb = 0").starts_with("cell_kb"));
    assert!(error("admin = \"9121\"").starts_with("admin"));
    let letters = error("notify_keyspace_events = \"KQ\"");
    assert!(letters.starts_with("notify_keyspace_events: Invalid event class"));
}

#[test]
fn instances_hand_over_at_an_age_only_if_asked_to() {
    let retire = |text| from_toml(text).unwrap().retire;
    assert_eq!(retire(""), retire::Settings::Never);
    assert_eq!(
        retire("retire_after_s = \"auto\""),
        retire::Settings::Typical
    );
    let age = retire::Settings::At(Duration::from_secs(5400));
    assert_eq!(retire("retire_after_s = \"5400\""), age);
    for wrong in ["0", "-1", "soon"] {
        let error = error(&format!("retire_after_s = \"{wrong}\""));
        assert!(error.starts_with("retire_after_s: "), "{error}");
    }
}

#[test]
fn links_are_tls_unless_they_stay_here() {
    let plain = |text| !from_toml(text).unwrap().link_tls;
    assert!(plain("") && !plain("link_tls = \"on\""));
    assert!(!plain("link_listen = \"0.0.0.0:7000\""));
    assert!(!plain("link_advertise = \"10.0.1.17:7000\""));
    assert!(!from_toml("").unwrap().links_can_be_read());
    let open = from_toml("link_tls = \"off\"\nlink_listen = \"0.0.0.0:7000\"").unwrap();
    assert!(!open.link_tls && open.links_can_be_read());
    assert!(error("link_tls = \"maybe\"").contains("auto"));
}

#[test]
fn who_is_to_acknowledge_writes_needs_memory_to_hold_them() {
    let holds_none = |text| from_toml(text).unwrap().holds_no_writes();
    assert!(!holds_none("") && !holds_none("hot_tier_mb = 0"));
    assert!(!holds_none("ack = \"proxy\""));
    assert!(holds_none("ack = \"proxy\"\nhot_tier_mb = 0"));
    assert!(holds_none("ack = \"proxy\"\ndirty_mb = 0"));
}

#[test]
fn a_backing_store_needs_a_place_and_a_data_folder() {
    let with = |text: &str| format!("data_dir = \"/d\"\n{text}");
    let backing = from_toml(&with("backing_store = \"s3://b/p\"")).unwrap();
    let backing = backing.backing.unwrap();
    assert_eq!(backing.location.to_string(), "s3://b/p");
    assert_eq!(backing.mode, crate::backing::Mode::WriteThrough);
    assert!(from_toml("").unwrap().backing.is_none());
    assert_eq!(
        error("backing_store = \"s3://b\""),
        "backing_store: needs a data_dir"
    );
    assert!(error(&with("backing_store = \"b\"")).contains("file:///FOLDER"));
    assert!(error("backing_mode = \"later\"").contains("write-behind"));
    let endpoint = "backing_store = \"s3://b\"\nbacking_s3_endpoint = \"b:1\"";
    assert!(error(&with(endpoint)).starts_with("backing_s3_endpoint: "));
}

#[test]
fn nearer_sources_win() {
    let file = Options {
        nodes: Some(20),
        linger_ms: Some(3),
        ..Options::default()
    };
    let flags = Options {
        nodes: Some(30),
        ..Options::default()
    };
    let config = Config::from_options(flags.or(file)).unwrap();
    assert_eq!((config.nodes, config.linger.least.as_millis()), (30, 3));
}

#[test]
fn an_invocation_is_held_for_what_an_invoke_costs() {
    let held = |text: &str| {
        let set = text.contains("node_architecture");
        let x86 = if set {
            ""
        } else {
            "node_architecture = \"x86_64\"\n"
        };
        let linger = from_toml(&format!("{x86}{text}")).unwrap().linger;
        (linger.least.as_millis(), linger.break_even.as_millis())
    };
    let aws = "lambda_endpoint = \"aws\"\n";
    assert_eq!(held(aws), (10, 204));
    assert_eq!(held(&format!("{aws}node_memory_mb = 1536")), (10, 68));
    // a fifth cheaper, so held for a quarter longer
    let arm = format!("{aws}node_architecture = \"arm64\"\n");
    assert_eq!(held(&arm), (10, 255));
    assert_eq!(held(&format!("{arm}node_memory_mb = 1536")), (10, 85));
    assert!(error("node_architecture = \"riscv\"").contains("x86_64"));
    assert_eq!(held(""), (10, 1824), "a pool on this machine costs nothing");
    assert_eq!(
        held("invoke_wait_usd_per_million = 0\nnode_memory_mb = 1536"),
        (8, 8)
    );
    assert_eq!(held("linger_max_ms = 100"), (10, 100));
    assert_eq!(held(&format!("{aws}linger_ms = 300")), (300, 300));
    assert!(
        error("invoke_wait_usd_per_million = -1").starts_with("invoke_wait_usd_per_million: must")
    );
}

#[test]
fn what_was_measured_of_the_platform_sets_what_is_not_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    let figure = |ms: f64| Spread::of(vec![ms]);
    let gap = |gap_s, kept, lost| Gap { gap_s, kept, lost };
    let profile = Profile {
        version: profile::VERSION,
        // twice and six times as slow as by default
        wake_ms: figure(26.0),
        get_ms: figure(60.0),
        gaps: vec![gap(10, 6, 0), gap(20, 0, 2)],
        ..Profile::default()
    };
    profile.write(&path).unwrap();
    let times = |more: &str| {
        let base = format!(
            "lambda_endpoint = \"aws\"\nnode_architecture = \"x86_64\"\nplatform_profile = {path:?}\n"
        );
        let config = from_toml(&format!("{base}{more}")).unwrap();
        let (linger, warmth) = (config.linger, config.warmth);
        (
            linger.break_even.as_millis(),
            warmth.least.as_secs(),
            warmth.most.as_secs(),
            config.hedge_after.as_millis(),
        )
    };
    // 204 ms, 45 s and 50 ms without a profile
    assert_eq!(times(""), (384, 10, 10, 120));
    assert_eq!(times("invoke_wait_usd_per_million = 1.5").0, 204);
    assert_eq!(times("linger_ms = 500").0, 500);
    let set = "warm_interval_s = 30\nwarm_interval_max_s = 300\nhedge_after_ms = 70";
    assert_eq!(times(set), (384, 30, 300, 70));
}

#[test]
fn the_example_file_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scatterhoard.example.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = Config::from_options(Options::from_toml(&path, &text).unwrap()).unwrap();
    assert_eq!(config.nodes, 14);
    // every setting that is commented out can be switched on as it stands
    let on: String = text
        .lines()
        .map(|l| format!("{}\n", l.strip_prefix("#= ").unwrap_or(l)))
        .collect();
    Config::from_options(Options::from_toml(&path, &on).unwrap()).unwrap();
}

#[test]
fn passwords_are_not_shown() {
    let options = Options {
        requirepass: Some("s3cret".to_owned().into()),
        ..Options::default()
    };
    assert!(!format!("{options:?}").contains("s3cret"));
    let config = Config::from_options(options).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(config.acl.log_in(b"default", b"s3cret").is_some());
}

#[test]
fn a_local_pool_leaves_processors_to_its_nodes() {
    let aws = Functions::Aws;
    let threads = |n| {
        [
            default_threads(n, &Functions::Local),
            default_threads(n, &aws),
        ]
    };
    assert_eq!(threads(1), [1, 1]);
    assert_eq!(threads(2), [1, 2]);
    assert_eq!(threads(5), [2, 5]);
    let chosen = Options {
        threads: Some(3),
        ..Options::default()
    };
    assert_eq!(Config::from_options(chosen).unwrap().threads, 3);
}
