//! Parts of large values: read from the nodes that hold them, and written by
//! writing the value anew.

use std::time::Duration;

use redis::Commands;

use crate::{
    contents::{Random, assert_same},
    server::{Server, until},
};

const SIZE: usize = 7_000_001;

fn get_range(redis: &mut redis::Connection, start: isize, end: isize) -> Vec<u8> {
    redis.getrange("large", start, end).unwrap()
}

#[test]
fn any_part_of_a_large_value_is_right_also_when_nodes_are_lost() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    let (mut redis, mut random) = (server.client(), Random::new(31));
    let value = random.bytes(SIZE);
    let () = redis.set("large", &value).unwrap();
    let mut check = |redis: &mut redis::Connection, what: &str| {
        let borders = [
            0,
            1,
            262_143,
            262_144,
            1 << 20,
            (1 << 20) + 1,
            SIZE - 1,
            SIZE,
        ];
        for _ in 0..40 {
            let mut ends = [0, 1].map(|_| match random.below(2) {
                0 => borders[random.below(borders.len())],
                _ => random.below(SIZE),
            });
            ends.sort_unstable();
            let [start, end] = ends;
            let part = get_range(redis, start as isize, end as isize);
            let expected = &value[start..(end + 1).min(SIZE)];
            assert_same(&format!("{what}: {start}..={end}"), Some(&part), expected);
        }
        assert_same(
            what,
            Some(&get_range(redis, -70_000, -1)),
            &value[SIZE - 70_000..],
        );
    };
    check(&mut redis, "healthy");
    server.reclaim(2, 3);
    check(&mut redis, "two nodes lost");
}

#[test]
fn a_small_part_of_a_large_value_asks_one_node() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    let mut redis = server.client();
    let value = Random::new(32).bytes(SIZE);
    let () = redis.set("large", &value).unwrap();
    let sent = || server.metric("scatterhoard_cells_read_total");
    let before = sent();
    for cell in [3, 11, 17] {
        let at = cell * 262_144 + 1000;
        let part = get_range(&mut redis, at as isize, at as isize + 99);
        assert_same("part", Some(&part), &value[at..at + 100]);
    }
    assert_eq!(sent() - before, 3.0);
}

#[test]
fn appended_and_overwritten_bytes_are_there_and_the_expiry_stays() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    let (mut redis, mut random) = (server.client(), Random::new(33));
    let mut value = Vec::new();
    for len in [10, 100_000, 300_000, 2_000_000, 5, 3_000_000] {
        let more = random.bytes(len);
        let new: usize = redis.append("large", &more).unwrap();
        value.extend_from_slice(&more);
        assert_eq!(new, value.len());
        let read: Vec<u8> = redis.get("large").unwrap();
        assert_same("appended", Some(&read), &value);
    }
    let () = redis.expire("large", 1000).unwrap();
    for (at, len) in [
        (0, 7),
        (262_140, 10),
        (1_000_000, 1_500_000),
        (5_400_000, 400_000),
        (9_000_000, 3),
    ] {
        let patch = random.bytes(len);
        let new: usize = redis.setrange("large", at, &patch).unwrap();
        value.resize(value.len().max(at as usize + len), 0);
        value[at as usize..at as usize + len].copy_from_slice(&patch);
        assert_eq!(new, value.len());
        let read: Vec<u8> = redis.get("large").unwrap();
        assert_same("overwritten", Some(&read), &value);
    }
    assert!((900..=1000).contains(&redis.ttl::<_, i64>("large").unwrap()));
    // what was superseded is freed
    until("old values are freed", Duration::from_secs(20), || {
        let () = redis.set("other", vec![1; 1 << 20]).unwrap();
        server.metric("scatterhoard_node_bytes_held") < 30e6
    });
}

#[test]
fn appends_at_the_same_time_all_count() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    std::thread::scope(|scope| {
        for writer in 0..6u8 {
            let mut redis = server.client();
            scope.spawn(move || {
                (0..8).for_each(|_| redis.append("log", vec![b'a' + writer; 70_000]).unwrap());
            });
        }
    });
    let log: Vec<u8> = server.client().get("log").unwrap();
    assert_eq!(log.len(), 6 * 8 * 70_000);
    for line in log.chunks(70_000) {
        assert!(line.iter().all(|b| *b == line[0]), "a piece was torn");
    }
}

#[test]
fn many_large_values_at_once_come_in_order_and_in_little_memory() {
    let server = Server::start(&["--node-memory-mb", "256", "--inflight-mb", "16"]);
    let (mut redis, mut random) = (server.client(), Random::new(34));
    let sizes = [
        10, 5_000_000, 100_000, 300_000, 12_000_000, 70_000, 1, 3_000_000, 900_000,
    ];
    let values: Vec<Vec<u8>> = sizes.iter().map(|size| random.bytes(*size)).collect();
    for (i, value) in values.iter().enumerate() {
        let () = redis.set(i, value).unwrap();
    }
    let keys: Vec<usize> = (0..40).map(|i| (i * 5) % 10).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let read: Vec<Option<Vec<u8>>> = server.client().mget(&keys).unwrap();
                for (key, read) in keys.iter().zip(read) {
                    match values.get(*key) {
                        Some(value) => assert_same(&key.to_string(), read.as_deref(), value),
                        None => assert_eq!(read, None),
                    }
                }
            });
        }
    });
}

#[test]
fn a_part_over_the_border_of_two_stripes_asks_two_nodes() {
    let server = Server::start(&[
        "--data-parity",
        "4+2",
        "--nodes",
        "8",
        "--hedge-after-ms",
        "1000",
    ]);
    let mut redis = server.client();
    let value = Random::new(35).bytes(SIZE);
    let () = redis.set("large", &value).unwrap();
    let cells = || server.metric("scatterhoard_cells_read_total");
    let before = cells();
    let border = 4 * 262_144;
    let part = get_range(&mut redis, border as isize - 10, border as isize + 9);
    assert_same("part", Some(&part), &value[border - 10..border + 10]);
    assert_eq!(cells() - before, 2.0);
    assert_eq!(server.metric("scatterhoard_hedged_reads_total"), 0.0);
}
