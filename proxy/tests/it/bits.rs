//! Bits of large values: read in part, piece by piece, written anew.

use redis::{Commands, Connection, ToRedisArgs, cmd};

use crate::{
    contents::{Random, assert_same},
    server::Server,
};

const SIZE: usize = 3_000_001;

fn number(redis: &mut Connection, name: &str, arguments: impl ToRedisArgs) -> i64 {
    cmd(name).arg(arguments).query(redis).unwrap()
}

fn words(line: String) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn bit(value: &[u8], at: usize) -> i64 {
    (value[at / 8] >> (7 - at % 8) & 1).into()
}

#[test]
fn bits_of_large_values_are_read_and_changed() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    let (mut redis, mut random) = (server.client(), Random::new(41));
    let mut value = random.bytes(SIZE);
    // one that begins with many clear bits, and has many set ones
    value[..700_000].fill(0);
    value[1_200_000..2_000_000].fill(0xff);
    let () = redis.set("k", &value).unwrap();
    let mut check = |redis: &mut Connection, value: &[u8]| {
        for _ in 0..12 {
            let at = random.below(8 * value.len());
            assert_eq!(
                number(redis, "GETBIT", words(format!("k {at}"))),
                bit(value, at)
            );
            let mut ends = [0, 1].map(|_| random.below(8 * value.len()));
            ends.sort_unstable();
            let [start, end] = ends;
            let whole: u32 = value[start / 8..=end / 8]
                .iter()
                .map(|b| b.count_ones())
                .sum();
            let range = format!("k {} {}", start / 8, end / 8);
            assert_eq!(number(redis, "BITCOUNT", words(range)), i64::from(whole));
            let bits = format!("k {start} {end} BIT");
            let counted = (start..=end).filter(|at| bit(value, *at) == 1).count();
            assert_eq!(number(redis, "BITCOUNT", words(bits)), counted as i64);
            for wanted in [0, 1] {
                let bits = format!("k {wanted} {start} {end} BIT");
                let first = (start..=end).find(|at| bit(value, *at) == wanted);
                let first = first.map_or(-1, |at| at as i64);
                assert_eq!(number(redis, "BITPOS", words(bits)), first);
            }
        }
    };
    check(&mut redis, &value);
    for at in [0, 8 * 262_144 - 1, 8 * 262_144, 8 * SIZE - 1] {
        let set = 1 - bit(&value, at);
        let before = number(&mut redis, "SETBIT", words(format!("k {at} {set}")));
        assert_eq!(before, 1 - set);
        value[at / 8] ^= 0x80 >> (at % 8);
    }
    let () = redis.expire("k", 1000).unwrap();
    let line = format!(
        "k SET u16 {} 4660 INCRBY i64 1600003 1 GET u8 0 SET u8 {} 255",
        8 * 524_287,
        8 * (SIZE + 9)
    );
    let old: Vec<i64> = cmd("BITFIELD").arg(words(line)).query(&mut redis).unwrap();
    let then = u16::from_be_bytes([value[524_287], value[524_288]]);
    assert_eq!((old[0], old[3]), (then.into(), 0));
    value[524_287..524_289].copy_from_slice(&4660_u16.to_be_bytes());
    value.resize(SIZE + 10, 0);
    value[SIZE + 9] = 255;
    let (head, shift) = (1_600_003 / 8, 1_600_003 % 8);
    let window = value[head..head + 9]
        .iter()
        .fold(0_u128, |w, b| w << 8 | u128::from(*b));
    let added = (window >> (8 - shift)) as u64;
    let kept = window & !(u128::from(u64::MAX) << (8 - shift));
    let window = kept | u128::from(added.wrapping_add(1)) << (8 - shift);
    value[head..head + 9].copy_from_slice(&window.to_be_bytes()[7..]);
    let read: Vec<u8> = redis.get("k").unwrap();
    assert_same("k", Some(&read), &value);
    assert!(redis.ttl::<_, i64>("k").unwrap() > 900);
    server.reclaim(2, 3);
    check(&mut redis, &value);
}

#[test]
fn one_bit_of_a_large_value_asks_one_node() {
    let server = Server::start(&[
        "--data-parity",
        "4+2",
        "--nodes",
        "8",
        "--hedge-after-ms",
        "1000",
    ]);
    let mut redis = server.client();
    let value = Random::new(42).bytes(SIZE);
    let () = redis.set("k", &value).unwrap();
    let cells = || server.metric("scatterhoard_cells_read_total");
    let before = cells();
    assert_eq!(
        number(&mut redis, "GETBIT", words("k 5000000".into())),
        bit(&value, 5_000_000)
    );
    let fields = words("k GET u8 5000000 GET u8 5000800".into());
    let _: Vec<i64> = cmd("BITFIELD_RO").arg(fields).query(&mut redis).unwrap();
    assert_eq!(cells() - before, 2.0);
}

#[test]
fn large_values_are_combined() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    let (mut redis, mut random) = (server.client(), Random::new(43));
    let sizes = [
        2_000_000, 10, 1_100_000, 0, 3_000_007, 500_000, 70_000, 2_999_999,
    ];
    let values: Vec<Vec<u8>> = sizes.iter().map(|size| random.bytes(*size)).collect();
    for (i, value) in values.iter().enumerate() {
        let () = redis.set(i, value).unwrap();
    }
    let chosen: [&[usize]; 5] = [&[0, 4], &[0, 1, 2], &[0, 2, 4, 5, 6, 7], &[4, 3], &[1, 6]];
    for keys in chosen {
        for name in ["AND", "OR", "XOR"] {
            let combine = |a: u8, b: u8| match name {
                "AND" => a & b,
                "OR" => a | b,
                _ => a ^ b,
            };
            let len = keys.iter().map(|k| sizes[*k]).max().unwrap();
            let byte = |at| {
                let bytes = keys
                    .iter()
                    .map(|k| values[*k].get(at).copied().unwrap_or(0));
                bytes.reduce(combine).unwrap()
            };
            let expected: Vec<u8> = (0..len).map(byte).collect();
            let mut bitop = cmd("BITOP");
            let stored: usize = bitop
                .arg(name)
                .arg("to")
                .arg(keys)
                .query(&mut redis)
                .unwrap();
            assert_eq!(stored, len);
            let read: Vec<u8> = redis.get("to").unwrap();
            assert_same(&format!("{name} {keys:?}"), Some(&read), &expected);
        }
    }
    // onto itself, in a transaction, after its nodes are gone
    server.reclaim(2, 3);
    let mut not = redis::pipe();
    not.atomic();
    for _ in 0..3 {
        not.cmd("BITOP").arg("NOT").arg(4).arg(4);
    }
    let stored: (usize, usize, usize) = not
        .get(4)
        .query::<(usize, usize, usize, Vec<u8>)>(&mut redis)
        .map(|(a, b, c, read)| {
            let expected: Vec<u8> = values[4].iter().map(|b| !b).collect();
            assert_same("NOT", Some(&read), &expected);
            (a, b, c)
        })
        .unwrap();
    assert_eq!(stored, (sizes[4], sizes[4], sizes[4]));
}

#[test]
fn combining_at_the_same_time_loses_nothing() {
    let server = Server::start(&["--data-parity", "4+2", "--nodes", "8"]);
    std::thread::scope(|scope| {
        for client in 0..4_u8 {
            let mut redis = server.client();
            scope.spawn(move || {
                for i in 0..12_u8 {
                    let place = 4 * usize::from(i) + usize::from(client);
                    let mut mask = vec![0; 100_000];
                    mask[place] = 1;
                    let mine = format!("mine{client}");
                    let () = redis.set(&mine, &mask).unwrap();
                    let mut bitop = cmd("BITOP");
                    let _: usize = bitop
                        .arg("OR")
                        .arg("all")
                        .arg("all")
                        .arg(&mine)
                        .query(&mut redis)
                        .unwrap();
                }
            });
        }
    });
    let all: Vec<u8> = server.client().get("all").unwrap();
    assert!(all[..48].iter().all(|b| *b == 1), "{:?}", &all[..48]);
}
