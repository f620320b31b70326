//! The I/O of the backing store, through `object_store`: a folder or a bucket.
//! The only place that knows it. Every request has a deadline.

mod folder;
mod http;

use std::{fs, future::Future, io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use object_store::{
    ClientOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
    RetryConfig, aws::AmazonS3Builder, path::Path,
};
use scatterhoard_wire::WriteId;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    BackingError, Location, Settings,
    cost::{Bill, Class, NAMES_PER_LIST},
    name,
};
use folder::Folder;
use http::Connector;

/// Requests under way at once; more wait.
const REQUESTS_AT_ONCE: usize = 64;
/// Attempts after the first, as long as there is time.
const RETRIES: usize = 3;

/// One cache's part of a backing store.
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    /// What all names begin with.
    root: Path,
    requests: Semaphore,
    bill: Bill,
    timeout: Duration,
    /// The same, if it is a folder on this machine.
    folder: Option<Folder>,
}

/// An upload in parts.
pub(super) type Parts = Box<dyn MultipartUpload>;

impl Remote {
    pub(super) fn new(settings: &Settings, id: name::CacheId) -> Result<Self, BackingError> {
        let own = id.to_string();
        match &settings.location {
            Location::Folder(path) => {
                let root = Path::from_absolute_path(path).map_err(unusable)?;
                let folder = Folder::new(path.join(&own), REQUESTS_AT_ONCE);
                let store = Arc::new(folder.clone());
                let remote = Self::over(store, root.join(own), settings.timeout);
                Ok(Self {
                    folder: Some(folder),
                    ..remote
                })
            }
            Location::Bucket { bucket, prefix } => {
                let store = Arc::new(bucket_of(settings, bucket)?);
                let root = Path::from(prefix.as_str()).join(own);
                Ok(Self::over(store, root, settings.timeout))
            }
        }
    }

    /// The part of any store whose names begin so.
    pub(super) fn over(store: Arc<dyn ObjectStore>, root: Path, timeout: Duration) -> Self {
        Self {
            store,
            root,
            requests: Semaphore::new(REQUESTS_AT_ONCE),
            bill: Bill::default(),
            timeout,
            folder: None,
        }
    }

    fn path(&self, write_id: WriteId) -> Path {
        let name = name::of(write_id);
        let parts = name.split('/');
        parts.fold(self.root.clone(), |path, part| path.join(part))
    }

    /// What [`Self::path`] made; none for something else.
    fn write_id(&self, path: &Path) -> Option<WriteId> {
        let parts: Vec<_> = path.prefix_match(&self.root)?.collect();
        let parts: Vec<&str> = parts.iter().map(|part| part.as_ref()).collect();
        name::parse(&parts.join("/"))
    }

    fn marker(&self) -> Path {
        self.root.clone().join(name::MARKER)
    }

    /// What requests have cost so far, in US dollars; a folder costs nothing.
    pub(super) fn usd(&self) -> f64 {
        match self.folder {
            Some(_) => 0.0,
            None => self.bill.usd(),
        }
    }

    /// One request, within its deadline.
    async fn ask<T>(
        &self,
        class: Class,
        what: &'static str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, BackingError> {
        let asked = timeout(self.timeout, async {
            // never closed
            let _turn = self.requests.acquire().await;
            self.bill.count(class);
            request.await
        });
        match asked.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(object_store::Error::NotFound { .. })) => Err(BackingError::Absent),
            Ok(Err(error)) => Err(unreachable(what, &error)),
            Err(_) => Err(unreachable(what, &"no answer in time")),
        }
    }

    /// Says whose place this is, once and for all.
    pub(super) async fn put_marker(&self, text: String) -> Result<(), BackingError> {
        let marker = self.marker();
        let put = self.store.put(&marker, text.into_bytes().into());
        self.ask(Class::Write, "put", put).await.map(|_| ())
    }

    /// Whether this is the place where the cache's objects are.
    pub(super) async fn check_marker(&self) -> Result<(), BackingError> {
        match self
            .ask(Class::Read, "head", self.store.head(&self.marker()))
            .await
        {
            Ok(_) => Ok(()),
            Err(BackingError::Absent) => Err(BackingError::Unreachable(
                "this cache's folder is not there".into(),
            )),
            Err(error) => Err(error),
        }
    }

    /// A folder would be made when something is put into it, also where another
    /// file system should be mounted.
    async fn check_folder(&self) -> Result<(), BackingError> {
        match self.folder {
            Some(_) => self.check_marker().await,
            None => Ok(()),
        }
    }

    /// Removes files of uploads that a predecessor did not end. While nothing is
    /// uploaded. (A bucket has rules for its own.)
    pub(super) async fn clear_unfinished(&self) -> Result<(), BackingError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let root = folder.root.clone();
        let cleared = folder.block(move || Ok(clear_unfinished(&root)));
        let cleared = self.ask(Class::Free, "clear", cleared).await?;
        cleared.map_err(|error| unreachable("clear", &error))
    }

    pub(super) async fn put(&self, id: WriteId, pieces: Vec<Bytes>) -> Result<(), BackingError> {
        self.check_folder().await?;
        let (path, payload) = (self.path(id), PutPayload::from_iter(pieces));
        let put = self.store.put(&path, payload);
        self.ask(Class::Write, "put", put).await.map(|_| ())
    }

    pub(super) async fn begin_parts(&self, id: WriteId) -> Result<Parts, BackingError> {
        self.check_folder().await?;
        let path = self.path(id);
        self.ask(Class::Write, "begin", self.store.put_multipart(&path))
            .await
    }

    pub(super) async fn put_part(
        &self,
        parts: &mut Parts,
        pieces: Vec<Bytes>,
    ) -> Result<(), BackingError> {
        let part = parts.put_part(PutPayload::from_iter(pieces));
        self.ask(Class::Write, "part", part).await
    }

    pub(super) async fn end_parts(&self, parts: &mut Parts) -> Result<(), BackingError> {
        self.ask(Class::Write, "end", parts.complete())
            .await
            .map(|_| ())
    }

    /// Takes back what was sent of them.
    pub(super) async fn abort_parts(&self, parts: &mut Parts) -> Result<(), BackingError> {
        match self.ask(Class::Free, "abort", parts.abort()).await {
            // nothing was kept
            Err(BackingError::Absent) => Ok(()),
            other => other,
        }
    }

    /// These bytes of what is stored; fewer if it ends before.
    pub(super) async fn get(&self, id: WriteId, range: Range<u64>) -> Result<Bytes, BackingError> {
        let path = self.path(id);
        let get = async {
            let got = self.store.get_range(&path, range.clone()).await;
            let Err(error) = got else { return got };
            self.bill.count(Class::Read);
            match self.store.head(&path).await {
                // not away, but cut: who checks the bytes notices
                Ok(found) if found.size <= range.start => Ok(Bytes::new()),
                Ok(_) => Err(error),
                Err(absent @ object_store::Error::NotFound { .. }) => Err(absent),
                Err(_) => Err(error),
            }
        };
        match self.ask(Class::Read, "get", get).await {
            Err(BackingError::Absent) => {
                // not because all of it is elsewhere, or nothing mounted
                self.check_marker().await?;
                Err(BackingError::Absent)
            }
            other => other,
        }
    }

    /// Deletes them, whether or not they are there: which of them are gone, and
    /// why not all, if so. One that cannot be deleted keeps none of the others.
    pub(super) async fn delete(&self, ids: &[WriteId]) -> (Vec<WriteId>, Result<(), BackingError>) {
        let paths: Vec<_> = ids.iter().map(|id| Ok(self.path(*id))).collect();
        let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
        let (mut gone, mut result) = (Vec::with_capacity(ids.len()), Ok(()));
        loop {
            let next = async { Ok(deleted.next().await) };
            match self.ask(Class::Free, "delete", next).await {
                Ok(Some(Ok(path))) => gone.extend(self.write_id(&path)),
                Ok(Some(Err(error))) => result = Err(unreachable("delete", &error)),
                Ok(None) => break,
                // the others would take as long
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        // those that were not found may be elsewhere, like all of it
        if let Err(error) = self.check_folder().await {
            return (Vec::new(), Err(error));
        }
        (gone, result)
    }

    pub(super) fn list(&self) -> Names<'_> {
        Names {
            remote: self,
            listed: self.store.list(Some(&self.root)),
            count: 0,
        }
    }
}

/// What is stored, by name.
pub(crate) struct Names<'a> {
    remote: &'a Remote,
    listed: BoxStream<'static, object_store::Result<ObjectMeta>>,
    /// Names so far.
    count: u64,
}

impl Names<'_> {
    /// The next write; files that are none are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<WriteId>, BackingError> {
        loop {
            let next = async { self.listed.next().await.transpose() };
            let class = match self.count % NAMES_PER_LIST {
                0 => Class::Write,
                _ => Class::Free,
            };
            self.count += 1;
            let Some(meta) = self.remote.ask(class, "list", next).await? else {
                return Ok(None);
            };
            if let Some(id) = self.remote.write_id(&meta.location) {
                return Ok(Some(id));
            }
        }
    }
}

/// They are called like what they become, with `#` and a number behind it.
fn clear_unfinished(folder: &std::path::Path) -> io::Result<()> {
    for epoch in fs::read_dir(folder)? {
        let epoch = epoch?;
        if !epoch.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(epoch.path())? {
            let file = file?;
            let name = file.file_name();
            let whole = name.to_str().and_then(|name| name.split_once('#'));
            let is_ours = |(counter, _): (&str, &str)| {
                let name = format!("{}/{counter}", epoch.file_name().display());
                name::parse(&name).is_some()
            };
            if whole.is_some_and(is_ours) {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

/// Credentials and region as everywhere: from the environment, a container or the
/// instance.
fn bucket_of(settings: &Settings, bucket: &str) -> Result<impl ObjectStore, BackingError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(ClientOptions::new())
        .with_http_connector(Connector)
        .with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: settings.timeout,
            ..RetryConfig::default()
        });
    if let Some(endpoint) = &settings.s3_endpoint {
        // who asks for plain text gets it
        builder = builder
            .with_endpoint(endpoint)
            .with_allow_http(endpoint.starts_with("http://"));
    }
    builder.build().map_err(unusable)
}

fn unusable(error: impl std::fmt::Display) -> BackingError {
    BackingError::Unreachable(one_line(&error))
}

fn unreachable(what: &'static str, error: &dyn std::fmt::Display) -> BackingError {
    metrics::counter!("scatterhoard_backing_errors_total", "request" => what).increment(1);
    BackingError::Unreachable(format!("{what}: {}", one_line(error)))
}

/// For a reply, which is one line.
fn one_line(error: &dyn std::fmt::Display) -> String {
    const MOST: usize = 300;
    let text = error.to_string();
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MOST).collect()
}
