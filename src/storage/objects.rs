//! The store's objects: atomic, durable puts, create-if-absent, listing, removal.
//!
//! A local directory is kept by `DurableDirectory`: `object_store`'s own local store makes writes atomic,
//! but flushes nothing, so a power cut could take back what was acknowledged.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    UploadPart,
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::StorageError;
use super::unfinished::{self, TOUCH_EVERY};

/// One store, below one root. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    directory: Arc<DurableDirectory>,
    url: String,
}

impl Objects {
    /// Opens (and where needed creates) the store at a directory path or `file://` URL.
    pub fn open(url: &str) -> Result<Self, StorageError> {
        let directory = directory_of(url)?;
        let store = DurableDirectory::open(&directory)
            .map_err(|source| StorageError::failed(format!("opening the store {url:?}"), source))?;
        let directory = Arc::new(store);
        Ok(Self {
            store: Arc::clone(&directory) as Arc<dyn ObjectStore>,
            directory,
            url: url.to_string(),
        })
    }

    /// The store as given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The object store itself, rooted where this one is.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Writes an object that must not exist; false when it does, and then nothing is changed.
    pub async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, StorageError> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(StorageError::failed(format!("writing {path}"), source)),
        }
    }

    /// Writes an object, whole or not at all, in place of one that may exist.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
        self.store
            .put(path, bytes.into())
            .await
            .map(|_| ())
            .map_err(|source| StorageError::failed(format!("writing {path}"), source))
    }

    /// Reads a whole object; `None` when there is none.
    pub async fn read(&self, path: &Path) -> Result<Option<Bytes>, StorageError> {
        let failed = |source| StorageError::failed(format!("reading {path}"), source);
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// What is known of an object without reading it; `None` when there is none.
    pub async fn look(&self, path: &Path) -> Result<Option<ObjectMeta>, StorageError> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(StorageError::failed(format!("looking for {path}"), source)),
        }
    }

    /// Names of the folders directly below `prefix`, sorted.
    pub async fn folders(&self, prefix: &Path) -> Result<Vec<String>, StorageError> {
        let listed = self
            .store
            .list_with_delimiter(Some(prefix))
            .await
            .map_err(|source| StorageError::failed(format!("listing {prefix}"), source))?;
        let mut names: Vec<String> = listed
            .common_prefixes
            .iter()
            .filter_map(|path| path.filename().map(str::to_string))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Objects directly below `prefix`, sorted by path.
    pub async fn files(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, StorageError> {
        let listed = self
            .store
            .list_with_delimiter(Some(prefix))
            .await
            .map_err(|source| StorageError::failed(format!("listing {prefix}"), source))?;
        let mut files = listed.objects;
        files.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(files)
    }

    /// Every object at any depth below `prefix`, sorted by path.
    pub async fn tree(&self, prefix: &Path) -> Result<Vec<Path>, StorageError> {
        let mut paths: Vec<Path> = self
            .store
            .list(Some(prefix))
            .map_ok(|meta| meta.location)
            .try_collect()
            .await
            .map_err(|source| StorageError::failed(format!("listing {prefix}"), source))?;
        paths.sort();
        Ok(paths)
    }

    /// Removes one object; one that is gone already is no error.
    pub async fn remove(&self, path: &Path) -> Result<(), StorageError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StorageError::failed(format!("removing {path}"), source)),
        }
    }

    /// Removes everything below `prefix`.
    pub async fn remove_tree(&self, prefix: &Path) -> Result<(), StorageError> {
        for path in self.tree(prefix).await? {
            self.remove(&path).await?;
        }
        Ok(())
    }

    /// Removes what broke off directly below `folder` under a name that begins with `stem`: objects that were never
    /// whole, which a process that was killed has left and no listing shows. The folder goes when it is empty.
    pub async fn remove_unfinished(&self, folder: &Path, stem: &str) -> Result<(), StorageError> {
        let failed = |source| StorageError::failed(format!("tidying {folder}"), source);
        let place = self
            .directory
            .inner
            .path_to_filesystem(folder)
            .map_err(|source| StorageError::failed(format!("tidying {folder}"), source))?;
        let stem = stem.to_owned();
        tokio::task::spawn_blocking(move || unfinished::remove_by_stem(&place, &stem))
            .await
            .map_err(|source| StorageError::failed(format!("tidying {folder}"), source))?
            .map_err(failed)
    }

    /// Removes what broke off anywhere below `folder` and has been left alone since `before`; answers how many objects.
    /// A process that lives and writes an object touches it every [`TOUCH_EVERY`].
    pub async fn remove_abandoned(
        &self,
        folder: &Path,
        before: SystemTime,
    ) -> Result<usize, StorageError> {
        let doing = || format!("looking for what broke off in {folder}");
        let place = self
            .directory
            .inner
            .path_to_filesystem(folder)
            .map_err(|source| StorageError::failed(doing(), source))?;
        tokio::task::spawn_blocking(move || unfinished::remove_untouched(&place, before))
            .await
            .map_err(|source| StorageError::failed(doing(), source))?
            .map_err(|source| StorageError::failed(doing(), source))
    }
}

fn directory_of(url: &str) -> Result<PathBuf, StorageError> {
    let bad = |reason: String| StorageError::BadLocation {
        url: url.to_string(),
        reason,
    };
    if url.is_empty() {
        return Err(bad("it is empty; give a directory or a file:// URL".into()));
    }
    let Some((scheme, _)) = url.split_once("://") else {
        return Ok(PathBuf::from(url));
    };
    if scheme != "file" {
        return Err(bad(format!(
            "scheme {scheme:?} is not supported by this version; give a directory or a file:// URL"
        )));
    }
    Url::parse(url)
        .map_err(|error| bad(error.to_string()))?
        .to_file_path()
        .map_err(|()| bad("a file:// URL needs an absolute path and no host".into()))
}

/// A directory as an object store whose finished writes survive a power cut.
#[derive(Debug)]
struct DurableDirectory {
    inner: Arc<LocalFileSystem>,
    root: PathBuf,
}

/// Makes the names of files under way differ, among all stores of this process too.
static FILES_UNDER_WAY: AtomicU64 = AtomicU64::new(0);

impl DurableDirectory {
    fn open(directory: &FilePath) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        std::fs::create_dir_all(directory)?;
        let root = directory.canonicalize()?;
        let inner = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        Ok(Self {
            inner: Arc::new(inner),
            root,
        })
    }

    /// Where bytes wait until they are whole: `object_store` hides names that end in `#` and digits from listings.
    fn waiting_place(&self, target: &FilePath) -> PathBuf {
        let mut name = target.as_os_str().to_owned();
        let number = FILES_UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        name.push(format!("#{}{number:010}", std::process::id()));
        PathBuf::from(name)
    }
}

impl fmt::Display for DurableDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableDirectory({})", self.root.display())
    }
}

#[async_trait::async_trait]
impl ObjectStore for DurableDirectory {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return self.inner.put_opts(location, payload, options).await;
            }
        };
        let target = self.inner.path_to_filesystem(location)?;
        let waiting = self.waiting_place(&target);
        let root = self.root.clone();
        let location = location.to_string();
        let write = move || {
            write_durably(&root, &target, &waiting, &payload, create).map_err(|source| {
                if create && source.kind() == std::io::ErrorKind::AlreadyExists {
                    object_store::Error::AlreadyExists {
                        path: location,
                        source: source.into(),
                    }
                } else {
                    generic(source)
                }
            })
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(generic)??;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        Ok(Box::new(DurableUpload {
            inner: self.inner.put_multipart_opts(location, options).await?,
            root: self.root.clone(),
            _touched: unfinished::keep_touched(target.clone(), TOUCH_EVERY),
            target,
        }))
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    /// Ranges that touch (the column chunks of a row group do) are read in one call, into memory that nobody has
    /// filled with zeros first: the local store's own reading takes twice as long.
    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let file = self.inner.path_to_filesystem(location)?;
        let (location, ranges) = (location.to_string(), ranges.to_vec());
        let read = move || {
            let file = File::open(file).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => object_store::Error::NotFound {
                    path: location,
                    source: source.into(),
                },
                _ => generic(source),
            })?;
            read_ranges(&file, &ranges).map_err(generic)
        };
        tokio::task::spawn_blocking(read).await.map_err(generic)?
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    /// In the order of names, as object stores list and as readers of a Delta log expect; a directory has no order.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        let in_order = async move {
            let mut found: Vec<ObjectMeta> = listed.try_collect().await?;
            found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            Ok(futures::stream::iter(found.into_iter().map(Ok)))
        };
        in_order.try_flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The bytes of each range, shared where ranges touch. A range beyond the end of the file is an error.
fn read_ranges(mut file: &File, ranges: &[Range<u64>]) -> std::io::Result<Vec<Bytes>> {
    // What a footer claims is checked before any memory is taken for it.
    let end = file.metadata()?.len();
    if ranges
        .iter()
        .any(|range| range.start > range.end || range.end > end)
    {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut found = Vec::with_capacity(ranges.len());
    let mut rest = ranges;
    while let Some(first) = rest.first() {
        let touching = 1 + rest
            .windows(2)
            .take_while(|pair| pair[0].end == pair[1].start)
            .count();
        let (run, others) = rest.split_at(touching);
        let length = run[touching - 1].end - first.start;
        let mut bytes = Vec::with_capacity(length as usize);
        file.seek(SeekFrom::Start(first.start))?;
        file.take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Bytes::from(bytes);
        found.extend(
            run.iter()
                .map(|range| bytes.split_to((range.end - range.start) as usize)),
        );
        rest = others;
    }
    Ok(found)
}

/// A file written in parts; it is flushed before `complete` answers.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    root: PathBuf,
    target: PathBuf,
    /// So that a slow writer's file is told from one that broke off.
    _touched: AbortOnDropHandle<()>,
}

#[async_trait::async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let result = self.inner.complete().await?;
        let (root, target) = (self.root.clone(), self.target.clone());
        tokio::task::spawn_blocking(move || {
            File::open(&target)?.sync_all()?;
            flush_folders(&root, &target)
        })
        .await
        .map_err(generic)?
        .map_err(generic)?;
        Ok(result)
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.inner.abort().await
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic {
        store: "DurableDirectory",
        source: Box::new(source),
    }
}

/// Times a folder may vanish between its making and its first file, when others remove what is empty.
const FOLDER_TRIES_MAX: usize = 16;

fn write_durably(
    root: &FilePath,
    target: &FilePath,
    waiting: &FilePath,
    payload: &PutPayload,
    create: bool,
) -> std::io::Result<()> {
    let mut file = create_in_folder(target, waiting)?;
    let written = (|| {
        for part in payload {
            file.write_all(part)?;
        }
        file.sync_all()?;
        if create {
            // A link is refused when the name is taken: that is the whole of create-if-absent.
            std::fs::hard_link(waiting, target)
        } else {
            std::fs::rename(waiting, target)
        }
    })();
    if create || written.is_err() {
        // Gone already after a rename; a leftover is invisible in any case.
        let _ = std::fs::remove_file(waiting);
    }
    written?;
    flush_folders(root, target)
}

fn create_in_folder(target: &FilePath, waiting: &FilePath) -> std::io::Result<File> {
    let mut tries = 0;
    loop {
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let opened = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(waiting);
        match opened {
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && tries < FOLDER_TRIES_MAX =>
            {
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Flushes the folders from the file's own up to the root, since any of them may be new.
fn flush_folders(root: &FilePath, target: &FilePath) -> std::io::Result<()> {
    let mut folder = target.parent();
    while let Some(here) = folder {
        match File::open(here) {
            Ok(open) => open.sync_all()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if here == root {
            break;
        }
        folder = here.parent();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_created_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let path = Path::from("a/b/c.json");

        assert!(objects.create(&path, Bytes::from("first")).await.unwrap());
        assert!(!objects.create(&path, Bytes::from("second")).await.unwrap());
        assert_eq!(objects.read(&path).await.unwrap().unwrap(), "first");

        objects.put(&path, Bytes::from("third")).await.unwrap();
        assert_eq!(objects.read(&path).await.unwrap().unwrap(), "third");
        assert_eq!(objects.folders(&Path::from("a")).await.unwrap(), ["b"]);

        objects.remove_tree(&Path::from("a")).await.unwrap();
        assert_eq!(objects.read(&path).await.unwrap(), None);
        assert!(objects.tree(&Path::from("a")).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn of_many_creators_exactly_one_wins() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let path = Path::from("race/0.json");
        let tries = (0..32).map(|writer| {
            let (objects, path) = (objects.clone(), path.clone());
            async move {
                let text = Bytes::from(format!("writer {writer}"));
                objects
                    .create(&path, text.clone())
                    .await
                    .unwrap()
                    .then_some(text)
            }
        });
        let won: Vec<Bytes> = futures::future::join_all(tries)
            .await
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(won.len(), 1);
        assert_eq!(objects.read(&path).await.unwrap().unwrap(), won[0]);
    }

    #[tokio::test]
    async fn ranges_come_in_their_order_whether_they_touch_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let path = Path::from("a/numbers");
        let bytes: Vec<u8> = (0..=255).collect();
        objects.put(&path, bytes.clone().into()).await.unwrap();
        let get = async |ranges: &[Range<u64>]| objects.store().get_ranges(&path, ranges).await;

        let ranges = [3..10, 10..10, 10..64, 200..256, 0..3, 3..5];
        let found = get(&ranges).await.unwrap();
        for (range, found) in ranges.iter().zip(found) {
            assert_eq!(found, bytes[range.start as usize..range.end as usize]);
        }
        #[allow(clippy::reversed_empty_ranges)]
        for wrong in [250..257, 1 << 60..1 << 61, 9..3] {
            assert!(get(&[0..3, wrong]).await.is_err());
        }
        let range = 0..1;
        let missing = objects
            .store()
            .get_ranges(&Path::from("none"), std::slice::from_ref(&range))
            .await;
        assert!(matches!(missing, Err(object_store::Error::NotFound { .. })));
    }

    #[test]
    fn a_store_of_another_kind_is_refused_by_name() {
        let error = Objects::open("s3://bucket/prefix").unwrap_err();
        assert_eq!(
            error.to_string(),
            "store URL \"s3://bucket/prefix\" cannot be used: scheme \"s3\" is not supported by \
             this version; give a directory or a file:// URL"
        );
        assert!(Objects::open("").is_err());
    }
}
