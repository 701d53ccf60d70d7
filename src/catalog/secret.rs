//! Secrets that all servers of one store share: made by the first that asks, read by the others.

use bytes::Bytes;
use object_store::path::Path;

use super::CatalogError;
use crate::storage::Objects;
use crate::support::machine::secret_bytes;

/// Bytes of a secret; enough for HMAC-SHA256.
pub const SECRET_BYTES: usize = 32;

/// The secret `cluster/<name>`, created from the system's random source if it is absent.
pub(super) async fn secret(
    objects: &Objects,
    name: &str,
) -> Result<[u8; SECRET_BYTES], CatalogError> {
    let path = Path::from_iter(["cluster", name]);
    let found = match objects.read(&path).await? {
        Some(found) => found,
        None => {
            let fresh = secret_bytes::<SECRET_BYTES>().map_err(|source| CatalogError::Store {
                doing: format!("making {path}"),
                source: Box::new(source),
            })?;
            let fresh = Bytes::copy_from_slice(&fresh);
            if objects.create(&path, fresh.clone()).await? {
                fresh
            } else {
                // Another server was first; its secret is the one.
                objects.read(&path).await?.unwrap_or_default()
            }
        }
    };
    found
        .as_ref()
        .try_into()
        .map_err(|_| CatalogError::Corrupt {
            what: path.to_string(),
            reason: format!("it has {} bytes, not {SECRET_BYTES}", found.len()),
        })
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;

    #[tokio::test]
    async fn servers_of_one_store_have_the_same_secret_and_other_stores_another() {
        let (here, there) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let open = async |directory: &tempfile::TempDir, server: &str| {
            Catalog::open(directory.path().to_str().expect("text"), server, 0)
                .await
                .expect("opened")
        };
        let (first, second, stranger) = (
            open(&here, "a").await,
            open(&here, "b").await,
            open(&there, "c").await,
        );
        let (one, two) = tokio::join!(first.secret("key"), second.secret("key"));
        let one = one.expect("a secret");
        assert_eq!(one, two.expect("a secret"));
        assert_ne!(one, stranger.secret("key").await.expect("a secret"));
        assert_ne!(one, first.secret("other").await.expect("a secret"));
    }

    #[tokio::test]
    async fn a_damaged_secret_is_named_and_never_used() {
        let here = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(here.path().join("cluster")).expect("made");
        std::fs::write(here.path().join("cluster/key"), b"short").expect("written");
        let catalog = Catalog::open(here.path().to_str().expect("text"), "a", 0)
            .await
            .expect("opened");
        let error = catalog.secret("key").await.expect_err("refused");
        assert!(error.to_string().contains("cluster/key"), "{error}");
    }
}
