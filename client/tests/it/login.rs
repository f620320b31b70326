//! Who we are, and how safely we say so.

use std::sync::Arc;

use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use scatterhoard_client::{
    Client, Command, Error, ErrorCode, Options, Reply, SetOptions, Tls, rustls,
};
use tokio_rustls::TlsAcceptor;

use crate::servers::{Fake, Server, free_address};

#[tokio::test]
async fn passwords_and_users() {
    let servers = [
        Server::redis(&["--requirepass", "secret"]),
        Server::scatterhoard(&["--requirepass", "secret"]),
    ];
    for server in servers {
        let options = || server.options().retries(0);
        Client::connect(options().password("secret")).await.unwrap();
        Client::connect(options().user("default").password("secret"))
            .await
            .unwrap();
        let code = async |options| Client::connect(options).await.unwrap_err().code().cloned();
        assert_eq!(
            code(options().password("wrong")).await,
            Some(ErrorCode::WrongPass)
        );
        assert_eq!(code(options()).await, Some(ErrorCode::NoAuth));
    }
}

#[tokio::test]
async fn databases_names_and_urls() {
    let server = Server::redis(&["--requirepass", "a@b"]);
    let url = format!("redis://:a%40b@{}/3", server.address);
    let options = Options::from_url(&url).unwrap().name("tester");
    let client = Client::connect(options).await.unwrap();
    let info = client
        .command(Command::new("CLIENT").arg("INFO").own_connection())
        .await
        .unwrap();
    let info = format!("{info:?}");
    for wanted in ["db=3", "name=tester", "resp=3"] {
        // Redis 7.0 tells no version of RESP
        assert!(info.contains(wanted) || wanted == "resp=3", "{info}");
    }
    let wrong = server.options().password("a@b").database(1000);
    let error = Client::connect(wrong).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::Err));
}

#[tokio::test]
async fn servers_without_hello_are_spoken_to_in_resp2() {
    let fake = Fake::start(async |_, mut peer| {
        let mut seen = vec![];
        while let Some(words) = peer.request().await {
            let answer = match words[0].as_str() {
                "HELLO" => "-ERR unknown command `HELLO`, with args beginning with: `3`\r\n".into(),
                "CLIENT" => "-ERR Unknown subcommand\r\n".into(),
                "GET" => "$-1\r\n".into(),
                "SEEN" => format!("+{}\r\n", seen.join(", ")),
                _ => "+OK\r\n".into(),
            };
            peer.say(answer).await;
            seen.push(words.join(" "));
        }
    })
    .await;
    let client = Client::connect(fake.options().user("me").password("pw").database(1))
        .await
        .unwrap();
    assert_eq!(client.get_small("k").await.unwrap(), None);
    let seen = client.command(Command::new("SEEN")).await.unwrap();
    let Reply::Status(seen) = seen else {
        panic!("{seen:?}")
    };
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(
        seen.starts_with("HELLO 3 AUTH me pw, AUTH me pw, SELECT 1, CLIENT SETINFO"),
        "{seen}"
    );
    assert!(seen.ends_with("PING, GET k"), "{seen}");
}

#[tokio::test]
async fn a_real_server_that_speaks_resp2_only() {
    let arguments = ["--rename-command", "HELLO", "", "--requirepass", "pw"];
    let server = Server::redis(&arguments);
    let client = Client::connect(server.options().password("pw"))
        .await
        .unwrap();
    let value = vec![9; 300_000];
    client.set("k", value.clone()).await.unwrap();
    assert!(client.get("k").await.unwrap().unwrap() == value);
    let several = client.get_many(["none", "k"]).await.unwrap();
    assert!(several[0].is_none() && several[1].as_ref().unwrap() == &value);
    assert_eq!(client.get_small("none").await.unwrap(), None);
    client
        .command(Command::new("HSET").arg("h").arg("f").arg("v"))
        .await
        .unwrap();
    let all = client
        .command(Command::new("HGETALL").arg("h"))
        .await
        .unwrap();
    assert!(
        matches!(all, Reply::Array(items) if items.len() == 2),
        "no map in RESP2"
    );
    let wrong = server.options().password("wrong").retries(0);
    let error = Client::connect(wrong).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::WrongPass));
}

/// TLS in front of redis-server, and the certificate as PEM.
async fn tls(server: &Server) -> (u16, String, tokio::task::JoinHandle<()>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = server.address;
    let task = async move {
        let mut relays = tokio::task::JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            relays.spawn(async move {
                let Ok(mut front) = acceptor.accept(socket).await else {
                    return;
                };
                let mut back = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
            });
        }
    };
    let task = tokio::spawn(task);
    (port, pem("CERTIFICATE", cert.der()), task)
}

fn pem(what: &str, bytes: &[u8]) -> String {
    let text = base64(bytes);
    format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let number = u32::from_be_bytes(padded);
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() {
                digit.into()
            } else {
                '='
            });
        }
    }
    text
}

#[tokio::test]
async fn tls_with_a_certificate_that_is_known_only() {
    let server = Server::redis(&[]);
    let (port, pem, _task) = tls(&server).await;
    let known = Tls::with_authorities(pem.as_bytes()).unwrap();
    let client = Client::connect(Options::new("localhost", port).tls(known.clone()))
        .await
        .unwrap();
    let value = vec![5; 3_000_000];
    client.set("k", value.clone()).await.unwrap();
    assert!(client.get("k").await.unwrap().unwrap() == value);
    assert!(client.get_small("k").await.unwrap().unwrap() == value);

    let elsewhere = Options::new("127.0.0.1", port).tls(known).retries(0);
    let error = Client::connect(elsewhere).await.unwrap_err();
    assert!(
        matches!(error, Error::Connect { .. }),
        "another name: {error}"
    );
    let (_, strange, _other) = tls(&server).await;
    let strange = Tls::with_authorities(strange.as_bytes()).unwrap();
    let options = Options::new("localhost", port).tls(strange).retries(0);
    let error = Client::connect(options).await.unwrap_err();
    assert!(
        matches!(error, Error::Connect { .. }),
        "another authority: {error}"
    );
    let url = Options::from_url(&format!("rediss://localhost:{port}")).unwrap();
    assert!(matches!(Client::connect(url).await, Err(Error::Usage(_))));
}

#[tokio::test]
async fn the_proxys_own_tls_with_users_and_streams() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = pem("CERTIFICATE", cert.der());
    let cert_file = file("cert.pem", &certificate);
    let key_file = file("key.pem", &pem("PRIVATE KEY", &signing_key.serialize_der()));
    let listen = free_address();
    let _server = Server::scatterhoard(&[
        "--requirepass",
        "secret",
        "--tls-listen",
        &listen.to_string(),
        "--tls-cert-file",
        &cert_file,
        "--tls-key-file",
        &key_file,
    ]);
    let url = format!("rediss://:secret@localhost:{}", listen.port());
    let options = Options::from_url(&url).unwrap();
    let known = Tls::with_authorities(certificate.as_bytes()).unwrap();
    let client = Client::connect(options.tls(known.clone())).await.unwrap();
    let value = Bytes::from(vec![5; 3_000_000]);
    let source = futures_util::stream::iter([value.clone()]);
    let put = client.put_stream("k", 3_000_000, source, SetOptions::new());
    assert!(put.await.unwrap().stored);
    assert!(client.get("k").await.unwrap().unwrap() == value);
    assert!(client.get_small("k").await.unwrap().unwrap() == value);
    let nobody = Options::new("localhost", listen.port()).tls(known);
    let error = Client::connect(nobody.retries(0)).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::NoAuth));
}
