use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(line: &str) -> Args {
    Cli::parse_from(line.split_whitespace()).args
}

fn json(line: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut args = parse(line);
    args.output.json = Some(folder.path().join("out.json"));
    args.output.plot = Some(folder.path().to_owned());
    run(args).unwrap();
    let drawn = std::fs::read_to_string(folder.path().join("cost-rate.svg")).unwrap();
    assert!(drawn.contains("elasticache serverless"));
    serde_json::from_slice(&std::fs::read(folder.path().join("out.json")).unwrap()).unwrap()
}

#[test]
fn a_quick_calculation_says_everything() {
    let said = json("x --quick --seeds 2 --nodes 20 --arch x86_64");
    let number = |path: &str| said.pointer(path).and_then(Value::as_f64).unwrap();
    assert_eq!((&said["arch"], number("/hours")), (&"x86_64".into(), 3.0));
    assert!(
        said["pool"]
            .as_str()
            .unwrap()
            .contains("20 nodes of 320 MiB")
    );
    let purposes = said["usd_by_purpose"].as_object().unwrap();
    let sum: f64 = purposes.values().filter_map(Value::as_f64).sum();
    assert!((sum - number("/total_usd")).abs() < 1e-9);
    assert!(number("/usd_by_purpose/proxy") > 0.0);
    assert!(number("/usd_by_purpose/serve") > 0.0);
    assert!(number("/hit_ratio") > 0.1 && number("/reset_share_of_hits") < 0.1);
    assert_eq!(said["peers"].as_array().unwrap().len(), 11);
    let core = number("/core_usd");
    let beside = ["logs", "api_path", "volumes", "watch"];
    let beside = beside.map(|part| number(&format!("/usd_by_purpose/{part}")));
    assert!((core + beside.iter().sum::<f64>() - sum).abs() < 1e-9);
    assert!((0.01..0.1).contains(&number("/usd_by_purpose/watch")));
    assert_eq!(said["seed"], 1);
    // a public address, 28 GB of volumes, no log lines
    assert_eq!(number("/usd_by_purpose/logs"), 0.0);
    assert!((number("/usd_by_purpose/api_path") - 3.0 * 0.005).abs() < 1e-9);
    let volumes = 28.0 * 3.0 / 730.0 * 0.08;
    assert!((number("/usd_by_purpose/volumes") - volumes).abs() < 1e-9);
    let sources = said["price_sources"].as_array().unwrap();
    assert!(
        sources
            .iter()
            .any(|s| s["section"] == "vpc" && s["date"] == "2026-05")
    );
    assert!(said["measured"].is_null());
    assert_eq!(number("/processor/cpu_s_per_gb"), 0.91);
    assert_eq!(said["processor"]["measured"], false);
    let source = said["processor"]["source"].as_str().unwrap();
    assert!(source.contains("cost --measure"), "{source}");
    let (arm, x86) = (&said["architectures"][0], &said["architectures"][1]);
    assert_eq!(
        (&arm["arch"], &x86["arch"]),
        (&"arm64".into(), &"x86_64".into())
    );
    assert_eq!(x86["total_usd"], said["total_usd"]);
    assert!(arm["usd_by_purpose"]["backup"].as_f64() < x86["usd_by_purpose"]["backup"].as_f64());
    assert_eq!(said["architectures"][2]["proxy_machine"]["arch"], "arm64");
    // what was simulated and what the formulas make of its mean hour
    let functions = ["serve", "warm", "backup", "repair"];
    let simulated: f64 = functions
        .map(|p| number(&format!("/usd_by_purpose/{p}")))
        .iter()
        .sum();
    let ratio = number("/formula_usd") / simulated;
    assert!((0.75..1.25).contains(&ratio), "{ratio}");
    assert!(
        said["unchecked_prices"]
            .as_array()
            .unwrap()
            .contains(&"s3.get".into())
    );
    assert!(!said["recommendation"].as_array().unwrap().is_empty());
}

#[test]
fn the_page_says_its_seeds_and_what_is_core() {
    let report = |line: &str| {
        let mut args = parse(line);
        args.pool.make_quick();
        args.report().unwrap()
    };
    let unwatched = report("x --quick --seed 4 --watch off");
    let report = report("x --quick --seed 4");
    let text = report.text(true);
    assert!(text.contains("\nseeds 4 to 5\n"), "{text}");
    assert!(text.contains("| functions | proxy | total | of that core |"));
    let ours = &report.architectures[0];
    let parts = ours.usd_by_purpose;
    let core = ours.total_usd - parts.logs - parts.api_path - parts.volumes - parts.watch;
    assert!((ours.core_usd - core).abs() < 1e-9);
    let without = ours.total_usd - parts.watch;
    assert!((unwatched.architectures[0].total_usd - without).abs() < 1e-9);
}

#[test]
fn a_described_workload_is_put_into_formulas() {
    let line = "x --stored-gb 100 --object-mb 50 --gets-per-hour 700 --sets-per-hour 250";
    let said = json(&format!("{line} --cross-zone-share 0.5 --backing-store"));
    assert!(said["hit_ratio"].is_null() && said["replay"].is_null());
    let number = |path: &str| said.pointer(path).and_then(Value::as_f64).unwrap();
    // in: 950 objects of 50 MB and what is copied; half of in and out, at two cents
    assert!(number("/usd_by_purpose/cross_zone") > 950.0 * 0.05 * 0.02);
    // 6 parts each, and two more requests
    assert!(number("/usd_by_purpose/backing_store") > 250.0 * 8.0 * 5e-6);
    let more = json(&line.replace("700", "700000"));
    assert!(more["total_usd"].as_f64() > said["total_usd"].as_f64());
}

#[test]
fn logs_and_the_way_to_the_api_are_paid_by_invocation() {
    let line = "x --stored-gb 100 --object-mb 50 --gets-per-hour 700 --sets-per-hour 250";
    let (plain, busy) = (
        json(line),
        json(&format!("{line} --platform-logs on --api-path nat-gateway")),
    );
    let usd = |said: &Value, part: &str| said["usd_by_purpose"][part].as_f64().unwrap();
    assert!(usd(&busy, "logs") > 0.001);
    assert!(usd(&busy, "api_path") > 0.05 && usd(&plain, "api_path") < 0.006);
    assert_eq!(usd(&busy, "backup"), usd(&plain, "backup"));
    assert!(busy["total_usd"].as_f64() > plain["total_usd"].as_f64());
}

#[test]
fn a_profile_takes_the_place_of_what_is_assumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    crate::replay::slow_profile().write(&path).unwrap();
    let workload = "--stored-gb 100 --object-mb 50 --gets-per-hour 700 --sets-per-hour 250";
    let with = format!("x {workload} --profile {}", path.display());
    let (assumed, probed) = (json(&format!("x {workload}")), json(&with));
    assert!(assumed["profile"].is_null());
    assert_eq!(probed["profile"]["function_mb_s"], 40.0);
    let backup = |said: &Value| said["usd_by_purpose"]["backup"].as_f64().unwrap();
    let as_taken = json(&format!("{with} --day probed"));
    // slower copies, and two hours of life in the one, half an hour in the other
    assert!(backup(&probed) > backup(&assumed));
    assert!(backup(&as_taken) > 2.0 * backup(&probed));
    // and in the simulation
    let quick = "x --quick --seeds 1 --nodes 20";
    let probed = json(&format!("{quick} --profile {}", path.display()));
    assert_eq!(probed["replay"]["pool"]["profile"]["warm_hello_ms"], 26.0);
    assert!(backup(&probed) > backup(&json(quick)));
}

#[test]
fn a_profile_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.json");
    std::fs::write(&path, "{}").unwrap();
    let line = format!("x --quick --profile {}", path.display());
    let error = Cli::try_parse_from(line.split_whitespace()).err().unwrap();
    assert!(error.to_string().contains("make it anew"), "{error}");
    let mut other = crate::replay::slow_profile();
    other.memory_mb = 1536;
    other.gaps.clear();
    other.write(&path).unwrap();
    let error = |line: &str| run(parse(line)).unwrap_err().to_string();
    assert!(error(&line).contains("--memory-mb 1536"));
    let line = format!("{line} --function-mb-s 60 --day probed");
    assert!(error(&line).contains("no loss of an instance"));
    assert!(error("x --quick --day probed").contains("--profile FILE is needed"));
}

#[test]
fn slow_clients_cost_more() {
    let (quick, slow) = (json("x --quick"), json("x --quick --client-mb-s 20"));
    let serve = |said: &Value| said["usd_by_purpose"]["serve"].as_f64().unwrap();
    assert!(
        serve(&slow) > 2.0 * serve(&quick),
        "{} {}",
        serve(&slow),
        serve(&quick)
    );
    assert_eq!(slow["hit_ratio"], quick["hit_ratio"]);
}

#[test]
fn small_objects_need_nodes_for_three_copies() {
    let nodes = |line: &str| -> f64 {
        let said = json(line);
        let pool = said["pool"].as_str().unwrap();
        pool.split(' ').next().unwrap().parse().unwrap()
    };
    let large = nodes("x --stored-gb 100 --object-mb 50 --gets-per-hour 1");
    let small = nodes("x --stored-gb 100 --object-mb 0.1 --gets-per-hour 1");
    assert!((2.5..2.7).contains(&(small / large)), "{small} {large}");
}

#[test]
fn small_hot_objects_at_high_rates_are_not_for_us() {
    let line = "x --stored-gb 10 --object-mb 0.001 --gets-per-hour 100000000";
    let said = json(line);
    let first = said["recommendation"][0].as_str().unwrap();
    assert!(first.starts_with("Do not use Scatterhoard"), "{first}");
    let large = json("x --stored-gb 100 --object-mb 50 --gets-per-hour 100");
    let first = large["recommendation"][0].as_str().unwrap();
    assert!(first.starts_with("Use Scatterhoard rather than"), "{first}");
    // and where it loses
    let second = large["recommendation"][1].as_str().unwrap();
    assert!(
        second.starts_with("Not for its price, if you run machines"),
        "{second}"
    );
}

#[test]
fn bad_input_is_told() {
    let error = |line: &str| match run(parse(line)) {
        Ok(()) => panic!("accepted: {line}"),
        Err(error) => error.to_string(),
    };
    for (line, expected) in [
        ("x", "--trace FILE is needed"),
        ("x --quick --cross-zone-share 2", "a share of 1"),
        (
            "x --stored-gb 0 --object-mb 1 --gets-per-hour 1",
            "more than 0",
        ),
        ("x --quick --peak 0.5", "1 or more"),
        ("x --quick --peak NaN", "1 or more"),
        ("x --quick --memory-mb 64", "as on Lambda"),
        ("x --quick --client-mb-s 0", "--client-mb-s must be"),
        ("x --quick --client-mb-s NaN", "--client-mb-s must be"),
        ("x --quick --proxy-mb-s 0", "--proxy-mb-s must be 1"),
        (
            "x --quick --function-mb-s 9999999",
            "--function-mb-s must be 1",
        ),
        ("x --quick --correlation NaN", "a share of 1"),
        ("x --quick --max-object-mb 0", "--max-object-mb must be 1"),
        (
            "x --stored-gb 1 --object-mb 1 --gets-per-hour 1 --seeds 99999",
            "--seeds must be 1 to",
        ),
        (
            "x --quick --backup-interval-s 99999999",
            "--backup-interval-s",
        ),
        ("x --quick --root-volume-gb inf", "--root-volume-gb"),
        (
            "x --stored-gb 10 --object-mb 1000 --gets-per-hour 1",
            "larger objects are not stored",
        ),
        (
            "x --stored-gb 0.001 --object-mb 10 --gets-per-hour 1",
            "more than --stored-gb holds",
        ),
        (
            "x --stored-gb 10 --object-mb 1 --gets-per-hour 1e300",
            "--gets-per-hour must be more than 0, and at most 1e12",
        ),
        (
            "x --stored-gb 10 --object-mb 1 --gets-per-hour 1 --sets-per-hour=-1",
            "--sets-per-hour",
        ),
        ("x --quick --nodes 11", "too few"),
        ("x --quick --proxy-machine z9.huge", "ec2.types.z9.huge"),
        ("x --quick --day 2019-12-26", "--reclaims FILE is needed"),
        (
            "x --stored-gb 1e8 --object-mb 1 --gets-per-hour 1",
            "do not fit",
        ),
    ] {
        assert!(error(line).contains(expected), "{line}: {}", error(line));
    }
    assert!(Cli::try_parse_from(["x", "--stored-gb", "1"]).is_err());
}

#[test]
fn an_older_price_file_is_completed_and_one_with_a_gap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.json");
    let shipped = include_str!("../../prices/us-east-1.json");
    let mut file: Value = serde_json::from_str(shipped).unwrap();
    let line = format!("x --quick --seeds 1 --nodes 20 --prices {}", path.display());
    for section in ["cloudwatch", "cloudwatch_logs", "vpc", "ebs"] {
        file.as_object_mut().unwrap().remove(section);
    }
    std::fs::write(&path, file.to_string()).unwrap();
    let said = json(&line);
    let borrowed = said["borrowed_prices"].as_array().unwrap();
    assert!(
        borrowed.contains(&"vpc.public_ipv4_h".into()),
        "{borrowed:?}"
    );
    file["vpc"] = serde_json::json!({"interface_endpoint_h": 0.01});
    std::fs::write(&path, file.to_string()).unwrap();
    let error = run(parse(&line)).unwrap_err().to_string();
    assert!(error.contains("no price vpc.public_ipv4_h"), "{error}");
}
