//! A folder whose file system may hang: a thread in the middle of a system call
//! cannot be stopped. A request holds a permit until its thread is back, not only
//! until nobody waits for it any more: so no more threads hang than there are
//! permits, and all further requests wait in vain within their deadlines.

use std::{ops::Range, path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart, local::LocalFileSystem, path::Path,
};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// Deletions under way at once.
const DELETIONS: usize = 8;
/// Names that are fetched together, as [`LocalFileSystem`] lists them.
const NAMES: usize = 1024;

/// A folder, and what its threads may be.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// Where this cache's part is.
    pub(super) root: path::PathBuf,
    files: Arc<LocalFileSystem>,
    threads: Arc<Semaphore>,
    /// Nobody waits for them: a hung one would never come.
    tasks: TaskTracker,
}

impl Folder {
    /// At most so many threads are in it at once.
    pub(super) fn new(root: path::PathBuf, threads: usize) -> Self {
        Self {
            root,
            files: Arc::new(LocalFileSystem::new().with_fsync(true)),
            threads: Arc::new(Semaphore::new(threads)),
            tasks: TaskTracker::new(),
        }
    }

    /// Goes on to its end when the caller is gone: one thread at a time.
    async fn hold<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        // never closed
        let permit = self.threads.clone().acquire_owned().await;
        let held = async move {
            let _permit = permit;
            request.await
        };
        self.tasks.spawn(held).await?
    }

    /// Something that blocks.
    pub(super) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tasks = self.tasks.clone();
        self.hold(async move { tasks.spawn_blocking(work).await? })
            .await
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (files, location) = (self.files.clone(), location.clone());
        self.hold(async move { files.put_opts(&location, payload, options).await })
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (files, location) = (self.files.clone(), location.clone());
        let (folder, runtime) = (self.clone(), Handle::current());
        let begin = async move {
            // it makes its file at once, wherever it is called
            let open = move || runtime.block_on(files.put_multipart_opts(&location, options));
            let inner = Some(folder.tasks.spawn_blocking(open).await??);
            Ok(Parts { folder, inner })
        };
        Ok(Box::new(self.hold(begin).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (files, location) = (self.files.clone(), location.clone());
        let get = async move {
            let head = options.head;
            let result = files.get_opts(&location, options).await?;
            let (meta, range) = (result.meta.clone(), result.range.clone());
            let attributes = result.attributes.clone();
            let extensions = result.extensions.clone();
            // here, where its thread is counted
            let bytes = match head {
                true => Bytes::new(),
                false => result.bytes().await?,
            };
            Ok(GetResult {
                payload: GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
                meta,
                range,
                attributes,
                extensions,
            })
        };
        self.hold(get).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (files, location) = (self.files.clone(), location.clone());
        let ranges = ranges.to_vec();
        self.hold(async move { files.get_ranges(&location, &ranges).await })
            .await
    }

    /// What is not there is as good as deleted.
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let folder = self.clone();
        let delete = move |location: Result<Path>| {
            let (folder, files) = (folder.clone(), folder.files.clone());
            async move {
                let location = location?;
                let path = location.clone();
                match folder.hold(async move { files.delete(&path).await }).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(location),
                    Err(error) => Err(error),
                }
            }
        };
        locations.map(delete).buffer_unordered(DELETIONS).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.files.list(prefix).ready_chunks(NAMES);
        let next = |(folder, mut listed): (Self, stream::ReadyChunks<_>)| async move {
            let some = async move {
                let some: Option<Vec<Result<ObjectMeta>>> = listed.next().await;
                Ok((some, listed))
            };
            let (some, listed) = folder.hold(some).await?;
            Ok::<_, object_store::Error>(
                some.map(|some| (stream::iter(some), (folder.clone(), listed))),
            )
        };
        stream::try_unfold((self.clone(), listed), next)
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (files, prefix) = (self.files.clone(), prefix.cloned());
        self.hold(async move { files.list_with_delimiter(prefix.as_ref()).await })
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (files, from, to) = (self.files.clone(), from.clone(), to.clone());
        self.hold(async move { files.copy_opts(&from, &to, options).await })
            .await
    }
}

/// An upload in parts; ended or taken back once.
#[derive(Debug)]
struct Parts {
    folder: Folder,
    inner: Option<Box<dyn MultipartUpload>>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.as_mut().map(|inner| inner.put_part(data));
        let folder = self.folder.clone();
        Box::pin(async move {
            match part {
                Some(part) => folder.hold(part).await,
                None => Err(ended()),
            }
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(mut inner) = self.inner.take() else {
            return Err(ended());
        };
        self.folder
            .hold(async move { inner.complete().await })
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        match self.take_back() {
            Some(taken_back) => taken_back.await?,
            None => Ok(()),
        }
    }
}

impl Parts {
    /// By a task of its own, which waits for a thread as long as it takes.
    fn take_back(&mut self) -> Option<JoinHandle<Result<()>>> {
        let mut inner = self.inner.take()?;
        let folder = self.folder.clone();
        let abort = async move { folder.hold(async move { inner.abort().await }).await };
        let runtime = Handle::try_current().ok()?;
        Some(self.folder.tasks.spawn_on(abort, &runtime))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.take_back();
    }
}

fn ended() -> object_store::Error {
    object_store::Error::Generic {
        store: "folder",
        source: "the upload is over".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, process::Command, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const SOON: Duration = Duration::from_secs(10);

    /// Whoever opens it to read hangs until somebody opens it to write.
    fn hanging_file(path: &path::Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    /// Lets go whoever hangs.
    async fn release(path: path::PathBuf) {
        let open = move || File::options().write(true).open(path);
        let opened = tokio::task::spawn_blocking(open);
        timeout(SOON, opened).await.unwrap().unwrap().unwrap();
    }

    fn name(place: &tempfile::TempDir, name: &str) -> Path {
        Path::from_absolute_path(place.path().join(name)).unwrap()
    }

    #[tokio::test]
    async fn no_more_threads_hang_than_there_are_permits() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned(), 2);
        let (sound, hung) = (name(&place, "sound"), name(&place, "hung"));
        folder.put(&sound, "value".into()).await.unwrap();
        hanging_file(&place.path().join("hung"));
        for _ in 0..2 {
            let read = timeout(SHORT, folder.get_range(&hung, 0..1)).await;
            assert!(read.is_err(), "it hangs");
        }
        // nobody waits for those two any more, but they are still there
        for _ in 0..5 {
            let read = timeout(SHORT, folder.get_range(&sound, 0..5)).await;
            assert!(read.is_err(), "there is no third thread");
        }
        assert_eq!(folder.tasks.len(), 2);
        release(place.path().join("hung")).await;
        let read = timeout(SOON, folder.get_range(&sound, 0..5)).await;
        assert_eq!(read.unwrap().unwrap(), "value");
    }

    #[tokio::test]
    async fn it_is_a_folder_like_any_other() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned(), 1);
        let names = ["a/1", "a/2", "b/3"].map(|text| name(&place, text));
        for at in &names {
            folder.put(at, "0123456789".into()).await.unwrap();
        }
        assert_eq!(folder.head(&names[0]).await.unwrap().size, 10);
        assert_eq!(
            folder.get_range(&names[1], 2..99).await.unwrap(),
            "23456789"
        );
        let root = Path::from_absolute_path(place.path()).unwrap();
        let list = || folder.list(Some(&root)).map_ok(|meta| meta.location);
        let mut listed: Vec<Path> = list().try_collect().await.unwrap();
        listed.sort();
        assert_eq!(listed, names);
        let gone = [names[0].clone(), names[2].clone(), name(&place, "never")];
        let asked = stream::iter(gone.clone()).map(Ok).boxed();
        let mut deleted: Vec<Path> = folder.delete_stream(asked).try_collect().await.unwrap();
        deleted.sort();
        assert_eq!(deleted, gone);
        let listed: Vec<Path> = list().try_collect().await.unwrap();
        assert_eq!(listed, [names[1].clone()]);
    }

    #[tokio::test]
    async fn an_upload_in_parts_that_is_left_leaves_no_file() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned(), 1);
        let at = name(&place, "parts");
        let files = || std::fs::read_dir(place.path()).unwrap().count();
        let mut parts = folder.put_multipart(&at).await.unwrap();
        parts.put_part("0123".into()).await.unwrap();
        parts.put_part("4567".into()).await.unwrap();
        assert_eq!(files(), 1);
        drop(parts);
        let taken_back = async {
            while files() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(SOON, taken_back).await.unwrap();
        let mut parts = folder.put_multipart(&at).await.unwrap();
        parts.put_part("0123".into()).await.unwrap();
        parts.put_part("4567".into()).await.unwrap();
        parts.complete().await.unwrap();
        parts.abort().await.unwrap();
        assert_eq!(folder.get_range(&at, 0..9).await.unwrap(), "01234567");
    }
}
