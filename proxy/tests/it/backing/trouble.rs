//! A backing store that is away, damaged, hung or not ours: errors say so, nothing
//! is forgotten, and it recovers by itself.

use std::{path::Path, process::Command};

use local_lambda::{Down, Faults};
use redis::Commands;

use super::{SOON, World, fill, until_settled, until_stock_is_taken, verify};
use crate::{
    contents::{Random, Values, store},
    server::{CLIENT_LIMIT, run, until},
};

#[track_caller]
fn assert_refused(error: redis::RedisError) {
    let text = error.to_string();
    assert!(
        text.contains("UNAVAILABLE") && text.contains("backing store"),
        "{text}"
    );
}

/// Flips one bit of the third block.
fn damage(stored: &Path) {
    let mut bytes = std::fs::read(stored).unwrap();
    bytes[2_500_000] ^= 1;
    std::fs::write(stored, bytes).unwrap();
}

#[test]
fn while_it_is_away_errors_say_so_and_nothing_is_forgotten() {
    let world = World::new();
    let server = world.proxy(&[]);
    let values = fill(&server, 4);
    world.take_away();
    let mut redis = server.client();
    // short, long, and several at once
    assert_refused(redis.set::<_, _, ()>("new", "value").unwrap_err());
    assert_refused(
        redis
            .set::<_, _, ()>("new", vec![1; 2_000_000])
            .unwrap_err(),
    );
    assert_refused(
        redis
            .mset::<_, _, ()>(&[("new", "a"), ("other", "b")])
            .unwrap_err(),
    );
    assert_eq!(redis.exists::<_, u32>(&["new", "other"]).unwrap(), 0);
    assert_eq!(server.metric("scatterhoard_backing_answers"), 0.0);
    // nodes have everything
    verify(&server, &values);
    let () = redis.del("4:alone:700000").unwrap();
    world.lose_everything();
    for key in values.keys().filter(|key| *key != "4:alone:700000") {
        match redis.get::<_, Option<Vec<u8>>>(key) {
            Ok(read) => assert!(read.unwrap().is_empty(), "{key}"),
            Err(error) => assert_refused(error),
        }
    }
    // an empty folder in its place is no reason to forget anything, either
    assert!(!world.folder().exists());
    std::fs::create_dir(world.folder()).unwrap();
    assert_refused(
        redis
            .get::<_, Option<Vec<u8>>>("4:alone:70000")
            .unwrap_err(),
    );
    std::fs::remove_dir(world.folder()).unwrap();
    world.bring_back();
    let mut values = values;
    values.remove("4:alone:700000");
    verify(&server, &values);
    assert_eq!(
        redis.get::<_, Option<Vec<u8>>>("4:alone:700000").unwrap(),
        None
    );
    let () = redis.set("new", "value").unwrap();
    assert_eq!(server.metric("scatterhoard_backing_answers"), 1.0);
    until_settled(&server);
    server.stop();
}

#[test]
fn write_behind_waits_for_a_store_that_is_away_and_is_bounded() {
    let world = World::new();
    let server = world.proxy(&[
        "--backing-mode",
        "write-behind",
        "--backing-behind-mb",
        "12",
    ]);
    let mut redis = server.client();
    let () = redis.set("first", "there").unwrap();
    until_settled(&server);
    world.take_away();
    let mut values = Values::from([("first".to_owned(), b"there".to_vec())]);
    let mut random = Random::new(5);
    let refusal = loop {
        let (key, value) = (format!("{}", values.len()), random.bytes(900_000));
        match redis.set::<_, _, ()>(&key, &value) {
            Ok(()) => values.insert(key, value),
            Err(error) => break error.to_string(),
        };
        assert!(values.len() < 20, "it is never full");
    };
    assert!(refusal.contains("too far behind"), "{refusal}");
    // those that are tried again and again are the oldest: the latest one waits,
    // and owes nothing when it is gone
    let latest = (values.len() - 1).to_string();
    for _ in 0..3 {
        let value = random.bytes(900_000);
        let () = redis.del(&latest).unwrap();
        until("there is room", SOON, || {
            redis.set::<_, _, ()>(&latest, &value).is_ok()
        });
        values.insert(latest.clone(), value);
    }
    assert!(server.metric("scatterhoard_backing_skipped_total") >= 3.0);
    world.bring_back();
    until_settled(&server);
    world.lose_everything();
    verify(&server, &values);
    server.stop();
}

#[test]
fn damaged_bytes_are_a_miss_and_never_served() {
    let world = World::new();
    let server = world.proxy(&[]);
    let mut random = Random::new(6);
    let mut redis = server.client();
    let () = redis.set("key", random.bytes(3_000_000)).unwrap();
    damage(&world.stored()[0]);
    world.lose_everything();
    // its first block is sound: the rest ends the connection
    assert!(redis.get::<_, Option<Vec<u8>>>("key").is_err());
    assert!(server.metric("scatterhoard_backing_damaged_total") > 0.0);
    // nodes have nothing that could be uploaded anew: that is not tried for ever
    until_settled(&server);
    assert_eq!(server.metric("scatterhoard_backing_mended_total"), 0.0);
    server.stop();
}

/// Nodes that did not answer had it whole all the time.
#[test]
fn damaged_bytes_are_uploaded_anew_when_nodes_have_them() {
    let world = World::new();
    let server = world.proxy(&[]);
    let (mut redis, mut values) = (server.client(), Values::new());
    let value = Random::new(17).bytes(3_000_000);
    store(&mut redis, &mut values, "key".into(), value);
    let stored = world.stored().remove(0);
    let sound = std::fs::read(&stored).unwrap();
    damage(&stored);
    let handle = world.platform.handle();
    handle.set_faults(Faults {
        down: Some(Down::ServiceException),
        ..Faults::default()
    });
    // as long as they are awake, nodes bring it
    until("it is read from the backing store", SOON, || {
        let read: redis::RedisResult<Vec<u8>> = redis.getrange("key", 2_400_000, 2_600_000);
        if let Ok(read) = &read {
            assert_eq!(read[..], values["key"][2_400_000..=2_600_000]);
        }
        read.is_err() && server.metric("scatterhoard_backing_damaged_total") > 0.0
    });
    assert!(std::fs::read(&stored).unwrap() != sound);
    handle.set_faults(Faults::default());
    until("it is mended", CLIENT_LIMIT, || {
        std::fs::read(&stored).unwrap() == sound
    });
    until_settled(&server);
    assert_eq!(server.metric("scatterhoard_backing_mended_total"), 1.0);
    assert_eq!(world.stored(), [stored]);
    world.lose_everything();
    verify(&server, &values);
    server.stop();
}

/// A file that whoever opens it to read waits for is a file system that hangs.
#[test]
fn a_folder_that_hangs_takes_few_threads_and_keeps_nobody_from_ending() {
    const READERS: usize = 30;
    const READS: usize = 10;
    let world = World::new();
    let server = world.proxy(&["--backing-timeout-ms", "200"]);
    let (mut redis, mut values) = (server.client(), Values::new());
    let value = Random::new(18).bytes(300_000);
    store(&mut redis, &mut values, "key".into(), value);
    let stored = world.stored().remove(0);
    let aside = world.cold.path().join("aside");
    std::fs::rename(&stored, &aside).unwrap();
    let made = Command::new("mkfifo").arg(&stored).status().unwrap();
    assert!(made.success());
    world.lose_everything();
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let mut redis = server.client();
            scope.spawn(move || {
                for _ in 0..READS {
                    assert_refused(redis.get::<_, Vec<u8>>("key").map(drop).unwrap_err());
                }
            });
        }
    });
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let threads = threads.count();
    assert!(threads < READERS * READS / 2, "{threads} threads");
    server.stop();
    std::fs::rename(&aside, &stored).unwrap();
    let server = world.proxy(&[]);
    verify(&server, &values);
    server.stop();
}

#[test]
fn a_journal_that_is_gone_empties_nothing() {
    let world = World::new();
    let server = world.proxy(&[]);
    fill(&server, 15);
    server.stop();
    std::fs::remove_dir_all(world.data.path().join("journal")).unwrap();
    let server = world.proxy(&[]);
    until_stock_is_taken(&server);
    assert!(world.stored().len() > 6);
    server.stop();
    std::fs::remove_file(world.data.path().join("backing.keep")).unwrap();
    let _server = world.proxy(&[]);
    until("it is gone", SOON, || world.stored().is_empty());
}

#[test]
fn a_place_that_cannot_be_used_is_refused_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let location = format!("file://{}/below", file.path().display());
    let ports = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--node-memory-mb",
        "128",
    ];
    let backing = [
        "--backing-store",
        &location,
        "--data-dir",
        data.path().to_str().unwrap(),
    ];
    let output = run(&[&["serve"], &ports[..], &backing[..]].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        text.contains("--backing-store") && text.contains(&location),
        "{text}"
    );
    // what says where everything is has lost its end
    let file = data.path().join("backing");
    std::fs::write(&file, "00000000000000").unwrap();
    let output = run(&[&["serve"], &ports[..], &backing[..]].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let path = file.to_str().unwrap();
    assert!(text.contains(path) && text.contains("remove"), "{text}");
}
