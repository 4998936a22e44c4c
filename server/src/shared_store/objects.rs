//! The shared store as keys with bytes: a folder, or a bucket of S3, GCS or Azure. The crate `object_store` is named here
//! and nowhere else.
//!
//! A folder is looked up anew at every call, so one that is not there is told from one that is empty, and comes back by
//! itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use ocelli_common::text::{chain, printable};

#[cfg(feature = "cloud")]
mod buckets;

/// Keys that are listed at most: a store with more is no store of models.
const MAX_LISTED: usize = 100_000;

/// What a killed writer left half written in a folder is removed after this.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// Why the store did not do what it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ObjectError {
    /// The address is none that this program can open; `reason` says what to do.
    Address { reason: String },
    /// The store cannot be reached, or does not let us in. `reason` is ours; `detail` is the system's, for the log.
    Away { reason: &'static str, detail: String },
    /// There is no such object.
    Missing,
    /// There is one of that key already.
    Taken,
    /// The object is larger than it may be.
    TooLarge { limit: u64 },
    /// More keys than a store of models has.
    TooMany,
}

impl ObjectError {
    /// More of it, for the log.
    pub(crate) fn detail(&self) -> &str {
        match self {
            ObjectError::Away { detail, .. } => detail,
            _ => "",
        }
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectError::Address { reason } => f.write_str(reason),
            ObjectError::Away { reason, .. } => f.write_str(reason),
            ObjectError::Missing => f.write_str("it is not in the store"),
            ObjectError::Taken => f.write_str("it is in the store already"),
            ObjectError::TooLarge { limit } => write!(f, "it is larger than {limit} bytes"),
            ObjectError::TooMany => write!(f, "the store holds more than {MAX_LISTED} objects"),
        }
    }
}

impl std::error::Error for ObjectError {}

impl From<Error> for ObjectError {
    fn from(error: Error) -> Self {
        let reason = match &error {
            Error::NotFound { .. } => return ObjectError::Missing,
            Error::AlreadyExists { .. } | Error::Precondition { .. } => return ObjectError::Taken,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                "the shared store refuses access: check the credentials in the environment"
            }
            _ => "the shared store cannot be reached",
        };
        ObjectError::Away { reason, detail: chain(&error) }
    }
}

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Parts separated by `/`.
    pub(crate) key: String,
    pub(crate) bytes: u64,
    /// Changes when the object does.
    pub(crate) tag: String,
    /// When it was written, by the clock of the store.
    pub(crate) modified: SystemTime,
}

/// See the module.
pub(crate) struct Objects {
    place: Place,
    address: String,
}

enum Place {
    Folder(PathBuf),
    #[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "made by the feature `cloud`"))]
    Bucket {
        store: Arc<dyn ObjectStore>,
        prefix: Path,
    },
}

impl Objects {
    /// A folder by its path or as `file:///folder`, or a bucket as `s3://bucket/prefix`, `gs://..`, `az://..`. Opens no
    /// connection. Credentials come from the environment.
    ///
    /// # Errors
    /// [`ObjectError::Address`].
    pub(crate) fn open(address: &str) -> Result<Objects, ObjectError> {
        let shown = printable(address);
        let refused = |reason: String| ObjectError::Address { reason };
        let Some((scheme, rest)) = address.split_once("://") else {
            if address.is_empty() {
                return Err(refused("the address of the shared store is empty".to_owned()));
            }
            return Objects::folder(PathBuf::from(address));
        };
        if scheme == "file" {
            if !rest.starts_with('/') {
                return Err(refused(format!("{shown}: a folder is file:///FOLDER, or its path alone")));
            }
            return Objects::folder(PathBuf::from(rest));
        }
        if rest.contains(['@', '?', '#']) {
            // Not repeated: it may hold a secret.
            let reason = "the address of the shared store holds a name, a key or a query: credentials come from the environment";
            return Err(refused(reason.to_owned()));
        }
        if !["s3", "gs", "az"].contains(&scheme) {
            return Err(refused(format!(
                "{shown}: a shared store is a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX"
            )));
        }
        #[cfg(feature = "cloud")]
        {
            let (store, prefix) = buckets::open(scheme, rest)
                .map_err(|error| refused(format!("{shown}: {}", chain(&error))))?;
            Ok(Objects { place: Place::Bucket { store, prefix }, address: address.to_owned() })
        }
        #[cfg(not(feature = "cloud"))]
        Err(refused(format!(
            "{shown}: this program was built without stores in a cloud: build it with `cargo build --release --features cloud`"
        )))
    }

    fn folder(path: PathBuf) -> Result<Objects, ObjectError> {
        // Whoever changes the working directory later means the same folder.
        let path = std::path::absolute(&path)
            .map_err(|error| ObjectError::Address { reason: format!("{}: {error}", path.display()) })?;
        Ok(Objects { address: path.display().to_string(), place: Place::Folder(path) })
    }

    /// The address, which holds no secret.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes the folder where it is missing, but none above it: those are where a disk of other machines appears. A bucket
    /// is made by whoever owns it.
    ///
    /// # Errors
    /// [`ObjectError::Away`].
    pub(crate) fn make(&self) -> Result<(), ObjectError> {
        let Place::Folder(path) = &self.place else { return Ok(()) };
        match std::fs::create_dir(path) {
            Err(error) if !path.is_dir() => Err(ObjectError::Away {
                reason: "the folder of the shared store is not there and cannot be made",
                detail: error.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn is_folder(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// The store, and the place in it under which all keys are.
    async fn store(&self) -> Result<(Arc<dyn ObjectStore>, Path), ObjectError> {
        let path = match &self.place {
            Place::Folder(path) => path.clone(),
            Place::Bucket { store, prefix } => return Ok((store.clone(), prefix.clone())),
        };
        let away =
            |detail| ObjectError::Away { reason: "the folder of the shared store is not there", detail };
        // This look at the folder waits for a disk, as do all calls of the store, which see to that themselves.
        let opened = tokio::task::spawn_blocking(move || LocalFileSystem::new_with_prefix(path)).await;
        let opened = opened.map_err(|error| away(error.to_string()))?;
        let store = opened.map_err(|error| away(chain(&error)))?.with_fsync(true);
        Ok((Arc::new(store), Path::default()))
    }

    /// All objects whose key begins with the part `folder`.
    ///
    /// # Errors
    /// [`ObjectError::Away`], [`ObjectError::TooMany`].
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Object>, ObjectError> {
        let (store, prefix) = self.store().await?;
        let mut listing = store.list(Some(&below(&prefix, folder)));
        let mut found = Vec::new();
        loop {
            let meta = match listing.try_next().await {
                Ok(Some(meta)) => meta,
                Ok(None) => return Ok(found),
                // A file that somebody laid there under a name that no key has, or that went meanwhile. The listing of a
                // bucket ends with an error, and half of one would be taken for all.
                Err(Error::InvalidPath { .. } | Error::NotFound { .. }) if self.is_folder() => continue,
                Err(error @ (Error::InvalidPath { .. } | Error::NotFound { .. })) => {
                    let reason = "the bucket of the shared store is not there, or has keys of others";
                    return Err(ObjectError::Away { reason, detail: chain(&error) });
                }
                Err(error) => return Err(error.into()),
            };
            if found.len() == MAX_LISTED {
                return Err(ObjectError::TooMany);
            }
            let Some(parts) = meta.location.prefix_match(&prefix) else { continue };
            let key = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            let modified = meta.last_modified.into();
            let tag = meta.e_tag.unwrap_or_else(|| meta.last_modified.to_rfc3339());
            found.push(Object { key, bytes: meta.size, tag, modified });
        }
    }

    /// The bytes of an object, of which no more than `limit` are taken.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::TooLarge`], [`ObjectError::Away`].
    pub(crate) async fn get(&self, key: &str, limit: u64) -> Result<Vec<u8>, ObjectError> {
        let (store, prefix) = self.store().await?;
        read(store.get(&below(&prefix, key)).await?, limit).await
    }

    /// Writes an object that is not there yet.
    ///
    /// # Errors
    /// [`ObjectError::Taken`], [`ObjectError::Away`].
    pub(crate) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        self.put(key, bytes, PutMode::Create).await
    }

    /// Writes an object in place of the one that is there: for a model whose bytes are no longer what its name says.
    ///
    /// # Errors
    /// [`ObjectError::Away`].
    pub(crate) async fn replace(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectError> {
        self.put(key, bytes, PutMode::Overwrite).await
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, mode: PutMode) -> Result<(), ObjectError> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let (store, prefix) = self.store().await?;
        store.put_opts(&below(&prefix, key), bytes.into(), options).await?;
        Ok(())
    }

    /// Removes an object; one that is not there is none to remove.
    ///
    /// # Errors
    /// [`ObjectError::Away`].
    pub(crate) async fn remove(&self, key: &str) -> Result<(), ObjectError> {
        let (store, prefix) = self.store().await?;
        match store.delete(&below(&prefix, key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what a writer that was killed left half written in a folder. Such files are in no listing.
    pub(crate) fn remove_left_over(&self) {
        let Place::Folder(path) = &self.place else { return };
        let mut folders = vec![path.join("models")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let name = entry.file_name();
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if name.to_str().is_some_and(is_half_written)
                    && meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_OVER))
                {
                    // The next start tries again.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// Whether a file has the name under which the crate writes before it gives a file its own: `NAME#NUMBER`.
fn is_half_written(name: &str) -> bool {
    let Some((_, number)) = name.rsplit_once('#') else { return false };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The place of a key below a prefix.
fn below(prefix: &Path, key: &str) -> Path {
    prefix.parts().chain(Path::from(key).parts()).collect()
}

/// Reads an answer piece by piece: what the store says of its length is not believed.
async fn read(answer: GetResult, limit: u64) -> Result<Vec<u8>, ObjectError> {
    if answer.meta.size > limit {
        return Err(ObjectError::TooLarge { limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(answer.meta.size).unwrap_or(0));
    let mut stream = answer.into_stream();
    while let Some(piece) = stream.try_next().await? {
        if (bytes.len() + piece.len()) as u64 > limit {
            return Err(ObjectError::TooLarge { limit });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_folders_or_known_schemes() {
        let refused = |address: &str| match Objects::open(address) {
            Err(ObjectError::Address { reason }) => reason,
            Err(other) => panic!("{address}: {other:?}"),
            Ok(_) => panic!("{address} was opened"),
        };
        for folder in ["shared", "/mnt/shared", "file:///mnt/shared", "./a b"] {
            assert!(Objects::open(folder).unwrap().address().starts_with('/'), "{folder}");
        }
        assert!(refused("").contains("empty"));
        assert!(refused("file://host/x").contains("file:///"));
        assert!(refused("ftp://host/x").contains("s3://BUCKET"));
        for secret in ["s3://name:secret@bucket/x", "az://container/x?sig=secret"] {
            let reason = refused(secret);
            assert!(reason.contains("environment") && !reason.contains("secret"), "{reason}");
        }
        #[cfg(not(feature = "cloud"))]
        for address in ["s3://bucket/x", "gs://bucket", "az://container/x"] {
            assert!(refused(address).contains("--features cloud"), "{address}");
        }
    }

    #[test]
    fn half_written_names() {
        for (name, half) in
            [("a.json#1", true), ("a#12", true), ("a.json", false), ("a#", false), ("a#b", false)]
        {
            assert_eq!(is_half_written(name), half, "{name}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told_from_an_empty_one() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("store");
        let objects = Objects::open(folder.to_str().unwrap()).unwrap();
        assert!(matches!(objects.list("models").await, Err(ObjectError::Away { .. })));
        assert!(matches!(objects.create("models/a", vec![1]).await, Err(ObjectError::Away { .. })));
        assert!(!folder.exists(), "looking makes nothing");
        objects.make().unwrap();
        assert_eq!(objects.list("models").await, Ok(Vec::new()));
        objects.create("models/a/b", vec![1, 2, 3]).await.unwrap();
        assert_eq!(objects.create("models/a/b", vec![4]).await, Err(ObjectError::Taken));
        let listed = objects.list("models").await.unwrap();
        assert_eq!(listed.iter().map(|o| (o.key.as_str(), o.bytes)).collect::<Vec<_>>(), [("models/a/b", 3)]);
        assert_eq!(objects.get("models/a/b", 3).await.unwrap(), [1, 2, 3]);
        assert_eq!(objects.get("models/a/b", 2).await, Err(ObjectError::TooLarge { limit: 2 }));
        assert_eq!(objects.get("models/a/c", 2).await, Err(ObjectError::Missing));
        objects.replace("models/a/b", vec![9]).await.unwrap();
        assert_eq!(objects.get("models/a/b", 3).await.unwrap(), [9]);
        objects.remove("models/a/b").await.unwrap();
        objects.remove("models/a/b").await.unwrap();
        assert_eq!(objects.list("models").await, Ok(Vec::new()));
    }
}
