//! Random commands on strings, keys, expiries, bits and transactions: few keys, so
//! that they meet, and arguments that are wrong now and then.

use crate::contents::Random;

/// A request, and which of two clients sends it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) client: usize,
    pub(crate) request: Vec<Vec<u8>>,
}

/// The commands of a seed.
pub(crate) fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let step = |_| Step {
        client: random.below(2),
        request: request(&mut random),
    };
    (0..count).map(step).collect()
}

/// The same in pipelines: one client says several in a row, and half of it are GETs and
/// SETs as programs say them most, of strings and of what a key may be besides.
pub(crate) fn pipelined_steps(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let (mut client, mut rest) = (0, 0);
    let step = |_| {
        if rest == 0 {
            (client, rest) = (1 - client, 1 + random.below(40));
        }
        rest -= 1;
        let plain: &[&str] = match random.below(4) {
            0 => &["SET", "KEY", "VALUE"],
            1 => &["get", "KEY"],
            _ => &[],
        };
        let words = plain.iter().flat_map(|word| argument(&mut random, word));
        let request = match words.collect::<Vec<_>>() {
            none if none.is_empty() => request(&mut random),
            words => words,
        };
        Step { client, request }
    };
    (0..count).map(step).collect()
}

fn one_of<'a>(random: &mut Random, words: &[&'a str]) -> &'a str {
    words[random.below(words.len())]
}

/// What stands for an argument in the patterns below.
fn argument(random: &mut Random, word: &str) -> Vec<Vec<u8>> {
    let text = |text: String| vec![text.into_bytes()];
    let one = |text: &str| vec![text.as_bytes().to_vec()];
    match word {
        "KEY" => text(format!("k{}", random.below(7))),
        "KEYS" => {
            let count = 1 + random.below(4);
            (0..count).flat_map(|_| argument(random, "KEY")).collect()
        }
        "VALUE" => vec![value(random)],
        "PAIRS" => {
            let count = 1 + random.below(3);
            let pair = |_| {
                let key = argument(random, "KEY");
                [key, vec![value(random)]].concat()
            };
            (0..count).flat_map(pair).collect()
        }
        "INT" => match random.below(12) {
            0 => one(one_of(
                random,
                &["x", "", "1.5", " 1", "9223372036854775808", "-0", "01"],
            )),
            1 => one(one_of(
                random,
                &["9223372036854775807", "-9223372036854775808"],
            )),
            2 => text((random.next() as i64).to_string()),
            _ => text((random.below(400) as i64 - 150).to_string()),
        },
        "FLOAT" => match random.below(10) {
            0 => one(one_of(
                random,
                &[
                    "x", "", "inf", "-inf", "nan", "1e4000", "-1e4000", "1e-4000", "0x1.8p3", ".",
                    "+1", "1e5000",
                ],
            )),
            1 => text(random.below(1000).to_string()),
            2 => text(format!(
                "{}e{}",
                random.next() as i64,
                random.below(60) as i64 - 30
            )),
            _ => text(format!(
                "{}.{}",
                random.below(2000) as i64 - 1000,
                random.below(10_000)
            )),
        },
        // mostly far away, or past: never while the test looks
        "TTL" => match random.below(12) {
            0 => one(one_of(
                random,
                &["x", "9223372036854775807", "-9223372036854775808"],
            )),
            1 => one(one_of(random, &["0", "-1"])),
            _ => text((3000 + random.below(900_000)).to_string()),
        },
        "PTTL" => match random.below(12) {
            0 => one(one_of(
                random,
                &["x", "9223372036854775807", "-9223372036854775808"],
            )),
            1 => one(one_of(random, &["0", "-1"])),
            _ => text((3_000_000 + random.below(900_000_000)).to_string()),
        },
        "AT" => match random.below(8) {
            0 => one(one_of(random, &["x", "1", "0", "-5"])),
            _ => text((4_000_000_000_u64 + random.next() % 1_000_000_000).to_string()),
        },
        "PAT" => match random.below(8) {
            0 => one(one_of(random, &["x", "1", "0", "-5"])),
            _ => text((4_000_000_000_000_u64 + random.next() % 1_000_000_000_000).to_string()),
        },
        "IF" => match random.below(3) {
            0 => one(one_of(random, &["nx", "xx", "gt", "LT", "foo"])),
            _ => vec![],
        },
        "SETOPTS" | "GETEXOPTS" => options(random, word == "SETOPTS"),
        // near, or in the middle of a large value
        "BIT" => match random.below(14) {
            0 => one(one_of(random, &["x", "-1", "99999999999999"])),
            1 => text(random.below(2_500_000).to_string()),
            _ => text(random.below(300).to_string()),
        },
        "OFFSET" => match random.below(14) {
            0 => one(one_of(random, &["x", "-1", "536870912"])),
            1 => text(random.below(300_000).to_string()),
            _ => text(random.below(60).to_string()),
        },
        "ON" => one(one_of(random, &["0", "1", "1", "0", "1", "0", "2", "x"])),
        "RANGE" => {
            let unit = one_of(random, &["", "", "BIT", "byte", "foo"]);
            let count = random.below(3);
            let mut range: Vec<Vec<u8>> =
                (0..count).flat_map(|_| argument(random, "INT")).collect();
            if count == 2 && !unit.is_empty() {
                range.extend(one(unit));
            }
            range
        }
        "OP" => one(one_of(
            random,
            &["AND", "or", "XOR", "NOT", "and", "or", "xor", "foo"],
        )),
        "FIELDS" => (0..random.below(4)).flat_map(|_| field(random)).collect(),
        "GETS" => (0..random.below(3))
            .flat_map(|_| {
                let mut get = one("get");
                get.extend(place(random));
                get
            })
            .collect(),
        "LCSOPTS" => match random.below(5) {
            0 => one("LEN"),
            1 => one("IDX"),
            2 => ["IDX", "MINMATCHLEN", "2", "WITHMATCHLEN"]
                .into_iter()
                .flat_map(one)
                .collect(),
            3 => one(one_of(random, &["foo", "MINMATCHLEN", "WITHMATCHLEN"])),
            _ => vec![],
        },
        "COPYOPTS" => match random.below(4) {
            0 => one("REPLACE"),
            1 => ["DB", "1", "REPLACE"].into_iter().flat_map(one).collect(),
            2 => ["DB", one_of(random, &["0", "1", "16", "x"])]
                .into_iter()
                .flat_map(one)
                .collect(),
            _ => vec![],
        },
        "DB" => one(one_of(random, &["0", "0", "0", "1", "16", "x"])),
        "GLOB" => one(one_of(random, &["*", "k[0-3]", "k?", "x", "*1"])),
        plain => one(plain),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => Vec::new(),
        1..6 => (random.below(200) as i64 - 100).to_string().into_bytes(),
        6 => format!("{}.5", random.below(100)).into_bytes(),
        7..10 => {
            let letters = random.below(30);
            (0..letters).map(|_| b'a' + random.below(4) as u8).collect()
        }
        10 => vec![[0, 0xff][random.below(2)]; 1 + random.below(20)],
        // on nodes of its own, in a few cells
        11 if random.below(4) == 0 => {
            let len = 60_000 + random.below(200_000);
            random.any_bytes(len)
        }
        _ => {
            let len = random.below(70);
            random.any_bytes(len)
        }
    }
}

fn options(random: &mut Random, sets: bool) -> Vec<Vec<u8>> {
    let mut options = Vec::new();
    for _ in 0..[0, 0, 1, 1, 1, 2, 3][random.below(7)] {
        let option = match sets {
            true => one_of(
                random,
                &[
                    "NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "foo",
                ],
            ),
            false => one_of(random, &["PERSIST", "EX", "PX", "EXAT", "PXAT", "foo"]),
        };
        options.push(option.as_bytes().to_vec());
        let operand = match option {
            "EX" => "TTL",
            "PX" => "PTTL",
            "EXAT" => "AT",
            "PXAT" => "PAT",
            _ => continue,
        };
        options.extend(argument(random, operand));
    }
    options
}

/// Format and offset of an integer.
fn place(random: &mut Random) -> Vec<Vec<u8>> {
    let format = match random.below(15) {
        0 => one_of(random, &["u64", "i65", "x8", "i0", "u"]).to_owned(),
        1 => "i64".to_owned(),
        2 => "u63".to_owned(),
        n => format!("{}{}", ["i", "u"][n % 2], 1 + random.below(63)),
    };
    let offset = match random.below(14) {
        0 => one_of(random, &["x", "-1", "#x", "#-1", "99999999999999"]).to_owned(),
        1 => random.below(2_000_000).to_string(),
        2..7 => format!("#{}", random.below(8)),
        _ => random.below(300).to_string(),
    };
    vec![format.into_bytes(), offset.into_bytes()]
}

fn field(random: &mut Random) -> Vec<Vec<u8>> {
    let word = one_of(
        random,
        &["get", "SET", "set", "incrby", "INCRBY", "overflow", "foo"],
    );
    let mut field = vec![word.as_bytes().to_vec()];
    match word {
        "overflow" => {
            let kind = one_of(random, &["WRAP", "sat", "FAIL", "sat", "fail", "foo"]);
            field.push(kind.as_bytes().to_vec());
        }
        "get" => field.extend(place(random)),
        _ => {
            field.extend(place(random));
            field.extend(argument(random, "INT"));
        }
    }
    field
}

/// No DBSIZE: there may be keys that were set in the past, and are not deleted yet.
/// Often, and the rest as often as each other.
const OFTEN: &[&str] = &[
    "get KEY",
    "set KEY VALUE",
    "set KEY VALUE SETOPTS",
    "mget KEYS",
];
const REST: &[&str] = &[
    "setnx KEY VALUE",
    "setex KEY TTL VALUE",
    "psetex KEY PTTL VALUE",
    "getset KEY VALUE",
    "getdel KEY",
    "getex KEY GETEXOPTS",
    "mset PAIRS",
    "mset KEY VALUE KEY",
    "msetnx PAIRS",
    "strlen KEY",
    "getrange KEY INT INT",
    "substr KEY INT INT",
    "setrange KEY OFFSET VALUE",
    "append KEY VALUE",
    "incr KEY",
    "decr KEY",
    "incrby KEY INT",
    "decrby KEY INT",
    "incrbyfloat KEY FLOAT",
    "lcs KEY KEY LCSOPTS",
    "setbit KEY BIT ON",
    "setbit KEY 4294967296 1",
    "getbit KEY BIT",
    "bitcount KEY RANGE",
    "bitpos KEY ON RANGE",
    "bitop OP KEY KEYS",
    "bitfield KEY FIELDS",
    "bitfield_ro KEY GETS",
    "del KEYS",
    "unlink KEYS",
    "exists KEYS",
    "touch KEYS",
    "type KEY",
    "expire KEY TTL IF",
    "pexpire KEY PTTL IF",
    "expireat KEY AT IF",
    "pexpireat KEY PAT IF",
    "ttl KEY",
    "pttl KEY",
    "expiretime KEY",
    "pexpiretime KEY",
    "persist KEY",
    "keys GLOB",
    "scan 0 count 1000",
    "rename KEY KEY",
    "rename KEY KEY",
    "renamenx KEY KEY",
    "copy KEY KEY COPYOPTS",
    "object freq KEY",
    "ping",
    "foo KEY",
    "get",
    "exec KEY",
];
const TRANSACTIONS: &[&str] = &[
    "multi",
    "multi",
    "multi",
    "exec",
    "exec",
    "exec",
    "exec",
    "discard",
    "watch KEYS",
    "watch KEY",
    "unwatch",
];

fn request(random: &mut Random) -> Vec<Vec<u8>> {
    let pattern = match random.below(100) {
        0..15 => one_of(random, OFTEN),
        15..28 => one_of(random, TRANSACTIONS),
        28 => one_of(random, &["select DB", "flushdb", "flushall"]),
        _ => one_of(random, REST),
    };
    pattern
        .split(' ')
        .flat_map(|word| argument(random, word))
        .collect()
}
