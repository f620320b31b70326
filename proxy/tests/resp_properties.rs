//! Laws of the RESP front that hold for any bytes. The same checks are targets
//! of `fuzz/`.

use proptest::collection::vec;
use proptest::prelude::*;
use scatterhoard_proxy::command::fuzzing::check_command;
use scatterhoard_proxy::resp::fuzzing::{check_differential, check_reply, check_request};

/// Bytes that look like the protocol more often than chance allows.
fn protocol_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => "\\*[0-9]{1,2}\r\n",
        3 => "\\$[0-9]{1,3}\r\n",
        6 => "\\$0\r\n\r\n|\\$3\r\nSET\r\n|\\$1\r\nk\r\n|\\$-1\r\n|\\*0\r\n|\\*-1\r\n",
        1 => "\r\n|\r|\n|\\*|\\$",
        2 => "[a-z\"' \\\\]{0,12}\r?\n",
        1 => "[a-z]{100,200}",
    ];
    let piece = prop_oneof![9 => piece.prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..9)];
    (vec(any::<u8>(), 8), vec(piece, 0..24))
        .prop_map(|(cuts, pieces)| [cuts, pieces.concat()].concat())
}

/// Requests as clients send them, then one byte changed here and there.
fn damaged_requests() -> impl Strategy<Value = Vec<u8>> {
    let arg = vec(any::<u8>(), 0..300);
    let request = vec(arg, 1..6).prop_map(|args| {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(&arg);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    });
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (vec(any::<u8>(), 8), vec(request, 1..4), damage).prop_map(|(cuts, requests, damage)| {
        let mut bytes = requests.concat();
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        [cuts, bytes].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_split_parses_alike(data in prop_oneof![protocol_like(), damaged_requests()]) {
        check_request(&data);
    }

    #[test]
    fn arbitrary_bytes_keep_within_limits(data in vec(any::<u8>(), 0..600)) {
        check_request(&data);
    }

    #[test]
    fn redis_protocol_decodes_what_we_accept(
        data in prop_oneof![protocol_like(), damaged_requests(), vec(any::<u8>(), 0..600)]
    ) {
        check_differential(&data);
        check_differential(data.get(8..).unwrap_or_default());
    }

    #[test]
    fn replies_are_encoded_as_redis_protocol_encodes_them(data in vec(any::<u8>(), 0..200)) {
        check_reply(&data);
    }

    #[test]
    fn commands_never_panic_and_errors_are_one_line(data in vec(any::<u8>(), 1..9)) {
        check_command(&data);
    }

    #[test]
    fn raw_requests_never_panic(data in protocol_like()) {
        check_command(data.get(8..).unwrap_or_default());
    }
}
