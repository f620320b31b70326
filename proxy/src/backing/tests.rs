//! Against a store in memory that fails and hangs when it is told to.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart, memory::InMemory, path::Path as Name,
};
use scatterhoard_wire::Epoch;

use super::{deletions::DELETIONS_AHEAD, *};

/// So long a request may take; nothing here takes any time by itself.
const LIMIT: Duration = Duration::from_millis(100);
/// Until what must happen has.
const SOON: Duration = Duration::from_secs(10);

/// What the store was asked, and what it is told.
#[derive(Debug)]
struct Orders {
    begun: AtomicUsize,
    ended: AtomicUsize,
    aborted: AtomicUsize,
    parts_fail: AtomicBool,
    /// Uploads begin when there are permits.
    begins: Semaphore,
    /// The same of their abortion.
    aborts: Semaphore,
    /// So many of these fail.
    failing_aborts: AtomicUsize,
    /// Names that end so are not deleted.
    undeletable: Mutex<Option<&'static str>>,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            aborted: AtomicUsize::new(0),
            parts_fail: AtomicBool::new(false),
            begins: Semaphore::new(Semaphore::MAX_PERMITS),
            aborts: Semaphore::new(Semaphore::MAX_PERMITS),
            failing_aborts: AtomicUsize::new(0),
            undeletable: Mutex::new(None),
        }
    }
}

impl Orders {
    fn counts(&self) -> (usize, usize, usize) {
        let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (count(&self.begun), count(&self.ended), count(&self.aborted))
    }
}

#[derive(Debug, Default)]
struct Fake {
    inner: InMemory,
    orders: Arc<Orders>,
}

impl std::fmt::Display for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fake")
    }
}

fn told_to() -> Error {
    Error::Generic {
        store: "fake",
        source: "told to".into(),
    }
}

#[async_trait]
impl ObjectStore for Fake {
    async fn put_opts(&self, at: &Name, value: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, value, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Name,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.orders.begins.acquire().await.unwrap().forget();
        let inner = self.inner.put_multipart_opts(at, how).await?;
        self.orders.begun.fetch_add(1, Ordering::SeqCst);
        let orders = self.orders.clone();
        Ok(Box::new(FakeParts { inner, orders }))
    }

    async fn get_opts(&self, at: &Name, how: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        names: BoxStream<'static, Result<Name>>,
    ) -> BoxStream<'static, Result<Name>> {
        let orders = self.orders.clone();
        let is_kept = move |name: &Name| {
            let undeletable = *orders.undeletable.lock();
            undeletable.is_some_and(|end| name.as_ref().ends_with(end))
        };
        let one = move |name: Result<Name>| match name {
            Ok(name) if is_kept(&name) => Err(told_to()),
            other => other,
        };
        self.inner.delete_stream(names.map(one).boxed())
    }

    fn list(&self, prefix: Option<&Name>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Name>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Name, to: &Name, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

#[derive(Debug)]
struct FakeParts {
    inner: Box<dyn MultipartUpload>,
    orders: Arc<Orders>,
}

#[async_trait]
impl MultipartUpload for FakeParts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.orders.parts_fail.load(Ordering::SeqCst) {
            true => Box::pin(async { Err(told_to()) }),
            false => self.inner.put_part(data),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.orders.ended.fetch_add(1, Ordering::SeqCst);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.orders.aborts.acquire().await.unwrap().forget();
        let failing = &self.orders.failing_aborts;
        let count = |left: usize| left.checked_sub(1);
        if failing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count)
            .is_ok()
        {
            return Err(told_to());
        }
        self.orders.aborted.fetch_add(1, Ordering::SeqCst);
        self.inner.abort().await
    }
}

fn backing(limit: Duration) -> (Arc<Backing>, Arc<Orders>) {
    let fake = Arc::new(Fake::default());
    (over(fake.clone(), limit), fake.orders.clone())
}

fn over(fake: Arc<Fake>, limit: Duration) -> Arc<Backing> {
    let settings = Settings {
        location: "s3://fake".parse().unwrap(),
        mode: Mode::WriteThrough,
        s3_endpoint: None,
        behind_bytes: 1 << 20,
        timeout: limit,
    };
    let remote = Remote::over(fake, Name::from("part"), limit);
    let keep_file = PathBuf::from("/nowhere/keep");
    Backing::over(remote, settings, keep_file, true)
}

fn id(counter: u64) -> WriteId {
    WriteId {
        epoch: Epoch(1),
        counter,
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, waiting).await.expect(what);
}

const SIZE: u64 = 20 << 20;

/// Sends the first half of a value that goes in parts.
async fn send_half(upload: &mut Upload<'_>) -> Result<(), BackingError> {
    for _ in 0..10 {
        upload.push(Bytes::from(vec![7; 1 << 20])).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_whole_upload_is_ended_and_read_again() {
    let (backing, orders) = backing(SOON);
    let uploading = backing.begin(id(1)).unwrap();
    let mut upload = uploading.send(SIZE);
    send_half(&mut upload).await.unwrap();
    send_half(&mut upload).await.unwrap();
    upload.finish().await.unwrap();
    backing.end().await;
    assert_eq!(orders.counts(), (1, 1, 0));
    let read = backing.read(id(1), SIZE, 5 << 20..6 << 20).await.unwrap();
    assert!(read.concat().iter().all(|b| *b == 7));
}

#[tokio::test]
async fn an_upload_that_is_left_is_taken_back_before_the_end() {
    let (backing, orders) = backing(SOON);
    orders.aborts.forget_permits(usize::MAX);
    let uploading = backing.begin(id(1)).unwrap();
    let mut upload = uploading.send(SIZE);
    send_half(&mut upload).await.unwrap();
    drop(upload);
    drop(uploading);
    let early = timeout(LIMIT, backing.end()).await;
    assert!(early.is_err(), "it has waited for what is taken back");
    orders.aborts.add_permits(1);
    timeout(SOON, backing.end()).await.unwrap();
    assert_eq!(orders.counts(), (1, 0, 1));
}

#[tokio::test]
async fn an_upload_that_fails_or_is_too_short_is_taken_back() {
    let (backing, orders) = backing(SOON);
    let uploading = backing.begin(id(1)).unwrap();
    let mut upload = uploading.send(SIZE);
    send_half(&mut upload).await.unwrap();
    assert_eq!(upload.finish().await, Err(BackingError::NotWhole));
    until("it is taken back", || orders.counts() == (1, 0, 1)).await;
    orders.parts_fail.store(true, Ordering::SeqCst);
    let mut upload = uploading.send(SIZE);
    assert!(send_half(&mut upload).await.is_err());
    drop(upload);
    until("it is taken back", || orders.counts() == (2, 0, 2)).await;
}

#[tokio::test]
async fn an_upload_that_begins_when_nobody_waits_is_taken_back() {
    let (backing, orders) = backing(SOON);
    orders.begins.forget_permits(usize::MAX);
    let uploading = backing.begin(id(1)).unwrap();
    let mut upload = uploading.send(SIZE);
    assert!(timeout(LIMIT, send_half(&mut upload)).await.is_err());
    drop(upload);
    orders.begins.add_permits(1);
    until("it is taken back", || orders.counts() == (1, 0, 1)).await;
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_tried_again_and_once_more_at_the_end() {
    let (backing, orders) = backing(SOON);
    orders.failing_aborts.store(2, Ordering::SeqCst);
    let uploading = backing.begin(id(1)).unwrap();
    let mut upload = uploading.send(SIZE);
    send_half(&mut upload).await.unwrap();
    drop(upload);
    let left = || orders.failing_aborts.load(Ordering::SeqCst);
    until("it was tried twice", || left() == 0).await;
    timeout(SOON, backing.end()).await.unwrap();
    assert_eq!(orders.counts(), (1, 0, 1));
}

/// As a file is of which nothing was on the disk.
#[tokio::test]
async fn what_was_cut_is_damaged_and_not_away() {
    let fake = Arc::new(Fake::default());
    let backing = over(fake.clone(), SOON);
    store(&backing, 1).await;
    let at = Name::from(format!("part/{}", name::of(id(1))));
    fake.put(&at, "cut".into()).await.unwrap();
    let read = backing.read(id(1), 1, 0..1).await;
    assert_eq!(read, Err(BackingError::Damaged));
    assert!(backing.answers());
    let read = backing.read(id(2), 1, 0..1).await;
    assert!(matches!(read, Err(BackingError::Unreachable(_))), "no part");
}

async fn store(backing: &Arc<Backing>, counter: u64) {
    let uploading = backing.begin(id(counter)).unwrap();
    let mut upload = uploading.send(1);
    upload.push(Bytes::from_static(b"v")).await.unwrap();
    upload.finish().await.unwrap();
}

async fn names(backing: &Backing) -> Vec<WriteId> {
    let listed = stream::unfold(backing.list(), |mut names| async move {
        let name = names.next().await.unwrap()?;
        Some((name, names))
    });
    listed.collect().await
}

#[tokio::test]
async fn one_that_cannot_be_deleted_keeps_none_of_the_others() {
    let (backing, orders) = backing(SOON);
    *orders.undeletable.lock() = Some("0000000000000002");
    for counter in 1..=4 {
        store(&backing, counter).await;
        backing.forget(id(counter));
    }
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let safe = || async {};
    tasks.spawn(backing.clone().delete_for_ever(safe, stop.clone()));
    until("the others are deleted", || backing.waiting().2 == 1).await;
    assert_eq!(names(&backing).await, [id(2)]);
    *orders.undeletable.lock() = None;
    until("it is tried again", || backing.waiting().2 == 0).await;
    assert!(names(&backing).await.is_empty());
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn whoever_waits_for_deletions_does_not_wait_for_ever() {
    let (backing, _) = backing(LIMIT);
    (0..=DELETIONS_AHEAD as u64).for_each(|n| backing.forget(id(n)));
    let room = timeout(SOON, backing.room_for_deletions()).await.unwrap();
    assert_eq!(room, Err(BackingError::Behind));
    let batch = backing.ledger.lock().take_doomed(u64::MAX, 1);
    backing.ledger.lock().deleted(&batch, &batch);
    let room = timeout(SOON, backing.room_for_deletions()).await.unwrap();
    assert_eq!(room, Ok(()));
}
