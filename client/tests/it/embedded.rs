//! The proxy within the program. What it does for commands, streams and loaders:
//! wherever `each` is.

use std::{
    collections::BTreeMap,
    fs, io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use local_lambda::{FunctionConfig, LocalLambda};
use scatterhoard_client::{
    Client, Command, Error,
    embedded::{Embedded, EndError, NodeProgram, Nodes, Settings, StartError},
};

use crate::servers::scatterhoard;

const LIMIT: Duration = Duration::from_secs(120);

fn settings() -> Settings {
    small(Nodes::Processes(NodeProgram::at(scatterhoard())))
}

fn small(nodes: Nodes) -> Settings {
    let settings = Settings::new(nodes).nodes(3).node_memory_mb(128);
    settings.data_parity(2, 1)
}

async fn start(settings: Settings) -> Embedded {
    Embedded::start(settings).await.unwrap()
}

/// A test with a client of a proxy within this program.
pub(crate) async fn within<F: Future<Output = ()>>(test: impl Fn(Client) -> F) {
    let cache = start(settings()).await;
    let options = cache.options().connect_timeout(LIMIT);
    let options = options.request_timeout(LIMIT);
    let client = Client::connect(options).await.unwrap();
    test(client.clone()).await;
    assert!(client.close(LIMIT).await);
    cache.shutdown().await.unwrap();
}

/// Children of this process that are nodes of these functions.
fn nodes(prefix: &str) -> usize {
    let me = std::process::id().to_string();
    let is_ours = |folder: io::Result<fs::DirEntry>| {
        let folder = folder.ok()?.path();
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
        let environment = fs::read(folder.join("environ")).ok()?;
        let name = format!("AWS_LAMBDA_FUNCTION_NAME={prefix}-");
        let is_node = environment
            .windows(name.len())
            .any(|part| part == name.as_bytes());
        Some(parent == me && is_node)
    };
    let all = fs::read_dir("/proc").unwrap();
    all.filter_map(is_ours).filter(|is_ours| *is_ours).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_on_several_threads() {
    let cache = start(settings().hot_tier_mb(0)).await;
    let options = cache.options().connect_timeout(LIMIT);
    let client = Client::new(options.request_timeout(LIMIT));
    let pattern: Bytes = (0..2_000_000).map(|at| (at % 251) as u8).collect();
    let all = (0..64_usize).map(|n| {
        let client = client.clone();
        let value = pattern.slice(n..n * 30_000 + n);
        async move {
            let key = format!("k{n}");
            client.set(&key, value.clone()).await.unwrap();
            assert!(client.get(&key).await.unwrap().unwrap() == value, "{key}");
        }
    });
    join_all(all).await;
    // no socket: such clients have no descriptor
    let list = client.command(Command::new("CLIENT").arg("LIST")).await;
    let list = format!("{:?}", list.unwrap());
    assert!(
        list.contains("addr=127.0.0.1:0 ") && list.contains("fd=-1 "),
        "{list}"
    );
    client.close(LIMIT).await;
    cache.shutdown().await.unwrap();
}

#[tokio::test]
async fn it_ends_with_its_nodes_and_says_so() {
    let cache = start(settings().function_prefix("ends")).await;
    let client = cache.client();
    client.set("k", vec![1; 1_000_000]).await.unwrap();
    assert!(nodes("ends") >= 3);
    assert!(!cache.has_ended());
    let options = cache.options().retries(0);
    // requests under way are finished
    let blocked = client.command(Command::new("BLPOP").arg("none").arg("0.3"));
    let (_, ended) = futures_util::join!(blocked, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cache.shutdown().await
    });
    ended.unwrap();
    assert_eq!(nodes("ends"), 0);
    for error in [
        client.get("k").await.unwrap_err(),
        client.get_small("k").await.unwrap_err(),
        Client::connect(options).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains("has been shut down"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_it_ends_behind_our_back() {
    let cache = start(settings().function_prefix("dropped")).await;
    cache.client().set("k", "v").await.unwrap();
    assert!(nodes("dropped") >= 3);
    drop(cache);
    let end = Instant::now() + LIMIT;
    while nodes("dropped") > 0 {
        assert!(Instant::now() < end, "nodes go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_wrong_at_the_start_has_a_type() {
    let start = async |settings| match Embedded::start(settings).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    };
    let few = start(settings().nodes(2)).await;
    assert!(matches!(few, StartError::Settings(_)), "{few}");
    let away = std::net::SocketAddr::from(([192, 0, 2, 1], 1));
    let address = start(settings().link_listen(away)).await;
    assert!(matches!(address, StartError::Settings(_)), "{address}");
    assert!(address.to_string().contains("link_listen"), "{address}");
    let nobody = NodeProgram::at("/no/such/program");
    let nobody = start(small(Nodes::Processes(nobody))).await;
    assert!(matches!(nobody, StartError::Nodes(_)), "{nobody}");
    let nowhere = Nodes::Endpoint("http://127.0.0.1:9".into());
    let nowhere = start(small(nowhere)).await;
    assert!(matches!(nowhere, StartError::Nodes(_)), "{nowhere}");
    assert!(nowhere.is_retryable());

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let data = start(settings().data_dir(&file)).await;
    assert!(matches!(data, StartError::Data(_)), "{data}");
    let first = Embedded::start(settings().data_dir(folder.path())).await;
    let taken = start(settings().data_dir(folder.path())).await;
    assert!(matches!(taken, StartError::Data(_)), "{taken}");
    // and free again behind it
    first.unwrap().shutdown().await.unwrap();
    let again = Embedded::start(settings().data_dir(folder.path())).await;
    again.unwrap().shutdown().await.unwrap();
}

/// Waits until no more tasks are left than there were.
async fn until_none_goes_on(before: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let end = Instant::now() + LIMIT;
    while metrics.num_alive_tasks() > before {
        assert!(
            Instant::now() < end,
            "{} tasks go on",
            metrics.num_alive_tasks() - before
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_late_leaves_nothing_behind() {
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let folder = tempfile::tempdir().unwrap();
    // what says that the folder is being filled goes meanwhile: that is found at the end
    let mark = folder.path().join("inventory");
    let removed = std::thread::spawn(move || {
        let end = Instant::now() + LIMIT;
        while fs::remove_file(&mark).is_err() {
            assert!(Instant::now() < end, "nothing is filled");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let file = folder.path().join("scatterhoard.toml");
    let text = "nodes = 3\ndata_parity = \"2+1\"\nnode_memory_mb = 128\n\
                function_prefix = \"late\"\nrecover = \"inventory\"\n";
    fs::write(&file, text).unwrap();
    let settings = Settings::from_file(&file).unwrap().data_dir(folder.path());
    let settings = settings.at(Nodes::Processes(NodeProgram::at(scatterhoard())));
    let Err(error) = Embedded::start(settings).await else {
        panic!("it started");
    };
    removed.join().unwrap();
    assert!(matches!(error, StartError::Data(_)), "{error}");
    assert_eq!(nodes("late"), 0);
    until_none_goes_on(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_given_up_leaves_nothing_behind() {
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    // as soon as there are nodes that have been asked how they are
    let started = async {
        while nodes("given-up") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = started => {}
        _ = Embedded::start(settings().function_prefix("given-up")) => panic!("it started"),
    }
    let end = Instant::now() + LIMIT;
    while nodes("given-up") > 0 {
        assert!(Instant::now() < end, "nodes go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_none_goes_on(before).await;
}

/// Functions that outlive the proxies which use them.
async fn platform() -> LocalLambda {
    let lambda = LocalLambda::start(local_lambda::Settings::default());
    let lambda = lambda.await.unwrap();
    for number in 0..3 {
        let name = format!("kept-{number:03}");
        let mut function = FunctionConfig::new(name, scatterhoard());
        function.args = vec!["node".into()];
        function.memory_mb = 128;
        function.env = BTreeMap::new();
        lambda.handle().put_function(function).unwrap();
    }
    lambda
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_kept_is_there_in_the_next_one() {
    let lambda = platform().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = || {
        let settings = small(Nodes::Endpoint(lambda.endpoint_url()));
        settings.function_prefix("kept").data_dir(folder.path())
    };
    let value = Bytes::from(vec![7; 2_000_000]);
    let cache = start(settings()).await;
    cache.client().set("k", value.clone()).await.unwrap();
    cache.shutdown().await.unwrap();
    let cache = start(settings()).await;
    assert!(cache.client().get("k").await.unwrap().unwrap() == value);
    cache.shutdown().await.unwrap();
    lambda.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_another_has_followed_ends_and_says_so() {
    let lambda = platform().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scatterhoard.toml");
    // instances are let go at once: both proxies use the same ones
    let text = "nodes = 3\ndata_parity = \"2+1\"\nnode_memory_mb = 128\nhot_tier_mb = 0\n\
                function_prefix = \"kept\"\nlinger_ms = 0\nlinger_max_ms = 20\n";
    fs::write(&file, text).unwrap();
    let settings = || {
        let settings = Settings::from_file(&file).unwrap();
        settings.at(Nodes::Endpoint(lambda.endpoint_url()))
    };
    let first = start(settings()).await;
    let client = first.client();
    client.set("k", "v").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = start(settings()).await;
    let later = second.client();
    let end = Instant::now() + LIMIT;
    while !first.has_ended() {
        assert!(Instant::now() < end, "it goes on");
        later.set("k", vec![2; 1_000_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // it meets the later epoch at its nodes
        let _ = client.set("k", vec![1; 1_000_000]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let error = client.get("k").await.unwrap_err();
    assert!(error.to_string().contains("later epoch"), "{error}");
    let end = first.shutdown().await.unwrap_err();
    assert!(matches!(end, EndError::Superseded(_)), "{end}");
    later.set("k", "v").await.unwrap();
    assert_eq!(later.get("k").await.unwrap().unwrap(), "v");
    second.shutdown().await.unwrap();
    lambda.shutdown(LIMIT).await;
}
