use super::*;
use crate::config::Options;

fn wanted() -> Wanted {
    let options = Options {
        lambda_endpoint: Some("aws".into()),
        node_architecture: Some(Architecture::X86),
        link_listen: Some("0.0.0.0:7000".parse().unwrap()),
        link_advertise: Some("10.0.1.17:7000".parse().unwrap()),
        ..Options::default()
    };
    Wanted::by(&Config::from_options(options).unwrap())
}

fn good() -> Function {
    Function {
        runtime: Some(RUNTIME.into()),
        memory_mb: 512,
        timeout_s: 900,
        state: Some("Active".into()),
        last_update: Some("Successful".into()),
        architecture: Some("x86_64".into()),
        purge_delay: Some("0".into()),
        vpc: Some("vpc-1".into()),
        code_sha256: "a".into(),
        last_modified: "1".into(),
        ..Function::default()
    }
}

#[test]
fn what_the_settings_want() {
    let wanted = wanted();
    assert_eq!((wanted.memory_mb, wanted.timeout_s), (512, 900));
    assert_eq!((wanted.nodes, wanted.least), (14, 11));
    assert!(wanted.private_links && wanted.is_aws && wanted.standby);
    let public = Options {
        link_listen: Some("0.0.0.0:7000".parse().unwrap()),
        link_advertise: Some("203.0.113.7:7000".parse().unwrap()),
        ..Options::default()
    };
    let public = Wanted::by(&Config::from_options(public).unwrap());
    assert!(!public.private_links && !public.is_aws);
}

#[test]
fn each_fault_of_a_function_is_found_and_nothing_else() {
    use Severity::{Error, Warning};
    let wanted = wanted();
    assert_eq!(of_function(&wanted, "n", &good()), []);
    type Spoil = fn(&mut Function);
    let cases: [(&str, Severity, Spoil); 16] = [
        ("state", Error, |f| f.state = Some("Failed".into())),
        ("state", Warning, |f| f.state = Some("Pending".into())),
        ("state", Warning, |f| f.state = Some("Inactive".into())),
        ("state", Warning, |f| f.last_update = Some("Failed".into())),
        ("state", Error, |f| {
            f.environment_error = Some("no key".into())
        }),
        ("runtime", Error, |f| f.runtime = Some("python3.14".into())),
        ("runtime", Warning, |f| {
            f.runtime = Some("provided.al2".into())
        }),
        ("runtime", Error, |f| f.snap_start = true),
        ("memory", Warning, |f| f.memory_mb = 1024),
        ("memory", Warning, |f| f.memory_mb = 128),
        ("architecture", Warning, |f| {
            f.architecture = Some("arm64".into());
        }),
        ("timeout", Warning, |f| f.timeout_s = 3),
        ("timeout", Warning, |f| f.timeout_s = 300),
        ("environment", Warning, |f| f.purge_delay = None),
        ("environment", Warning, |f| {
            f.purge_delay = Some("10".into())
        }),
        ("vpc", Error, |f| f.vpc = None),
    ];
    for (check, severity, spoil) in cases {
        let mut function = good();
        spoil(&mut function);
        let found = of_function(&wanted, "node-7", &function);
        assert_eq!(found.len(), 1, "{check}: {found:?}");
        assert_eq!((found[0].check, found[0].severity), (check, severity));
        assert!(found[0].what.contains("node-7") && found[0].fix.is_some());
    }
    // images have no runtime, emulators know no state and no VPC
    let emulated = Function {
        runtime: None,
        state: None,
        vpc: None,
        ..good()
    };
    let elsewhere = Wanted {
        is_aws: false,
        ..wanted
    };
    assert_eq!(of_function(&elsewhere, "n", &emulated), []);
}

#[test]
fn a_function_without_a_network_interface_says_what_to_ask_for() {
    let fix = |function: &Function| of_state("n", function).and_then(|finding| finding.fix);
    let mut function = Function {
        state: Some("Failed".into()),
        reason_code: Some("EniLimitExceeded".into()),
        ..good()
    };
    assert!(fix(&function).unwrap().contains("L-9FEE3D26"));
    function.reason_code = Some("SubnetOutOfIPAddresses".into());
    assert!(fix(&function).unwrap().contains("larger subnet"));
    // an update that failed leaves it active
    function.state = Some("Active".into());
    function.last_update = Some("Failed".into());
    assert!(fix(&function).unwrap().contains("larger subnet"));
    function.reason_code = Some("AReasonOfTomorrow".into());
    assert_eq!(fix(&function).unwrap(), "deploy the function again");
}

#[test]
fn a_new_accounts_quota_is_named() {
    let account = |unreserved| Account {
        concurrency: unreserved,
        unreserved,
    };
    let wanted = wanted();
    // 10+2 needs 11 at once, 14 nodes and 8 rounds want 22
    let of = |unreserved, reserving| {
        let finding = of_account(&wanted, account(unreserved), reserving);
        (finding.severity, finding.what)
    };
    let (severity, what) = of(10, 0);
    assert_eq!(severity, Severity::Error);
    assert!(
        what.contains("allows 10 ") && what.contains("needs 11 "),
        "{what}"
    );
    assert_eq!(of(11, 0).0, Severity::Warning);
    assert_eq!(of(21, 0).0, Severity::Warning);
    assert_eq!(of(22, 0).0, Severity::Ok);
    // those with concurrency of their own need none of it
    assert_eq!(of(10, 4).0, Severity::Warning);
    assert_eq!(of(0, 14).0, Severity::Ok);
    let alone = Wanted {
        standby: false,
        ..wanted.clone()
    };
    assert_eq!(of_account(&alone, account(14), 0).severity, Severity::Ok);
}

#[test]
fn a_function_needs_two_executions_for_its_round_and_one_that_ends() {
    let wanted = wanted();
    let severity = |reserved| of_reserved(&wanted, "n", reserved).map(|f| f.severity);
    assert_eq!(severity(None), None);
    assert_eq!(severity(Some(0)), Some(Severity::Error));
    assert_eq!(severity(Some(1)), Some(Severity::Warning));
    assert_eq!(severity(Some(2)), Some(Severity::Warning));
    assert_eq!(severity(Some(3)), None);
    let alone = Wanted {
        standby: false,
        ..wanted.clone()
    };
    assert_eq!(of_reserved(&alone, "n", Some(1)), None);
}

#[test]
fn architectures_are_not_mixed() {
    let names = ["n-000".to_owned(), "n-001".to_owned()];
    let mut functions = [good(), good()];
    assert_eq!(of_architectures(names.iter().zip(&functions)), None);
    functions[1].architecture = Some("arm64".into());
    let found = of_architectures(names.iter().zip(&functions)).unwrap();
    assert_eq!(found.severity, Severity::Warning);
    assert!(
        found.what.contains("1 arm64 (n-001), 1 x86_64 (n-000)"),
        "{found:?}"
    );
}

#[test]
fn changes_are_told_apart() {
    let before = good();
    let after = |change: fn(&mut Function)| {
        let mut after = good();
        change(&mut after);
        changes(&before, &after)
    };
    assert_eq!(after(|_| ()), []);
    let updated: fn(&mut Function) = |f| {
        f.code_sha256 = "b".into();
        f.last_modified = "2".into();
    };
    assert_eq!(after(updated), [Change::Code]);
    assert_eq!(after(|f| f.memory_mb = 1024), [Change::Memory]);
    assert_eq!(after(|f| f.timeout_s = 60), [Change::Configuration]);
    assert_eq!(
        after(|f| f.last_modified = "2".into()),
        [Change::Configuration]
    );
    assert_eq!(
        after(|f| f.state = Some("Inactive".into())),
        [Change::State]
    );
    assert!(Change::Code.replaces_instances() && !Change::State.replaces_instances());
}

#[test]
fn what_holds_for_all_functions_is_said_once() {
    let wanted = wanted();
    let mut small = good();
    small.memory_mb = 128;
    let mut old = small.clone();
    old.runtime = Some("provided.al2".into());
    let mut found = Vec::new();
    for (name, function) in [("n-000", &small), ("n-001", &small), ("n-002", &old)] {
        let of_it = of_function(&wanted, name, function);
        found.extend(of_it.into_iter().map(|f| (name.to_owned(), f)));
    }
    let told = summary(found);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].what.starts_with("n-000 has 128 MB"), "{told:?}");
    assert!(told[0].what.ends_with("(and 2 more functions)"), "{told:?}");
    assert!(told[1].what.starts_with("n-002 has runtime"), "{told:?}");
}
