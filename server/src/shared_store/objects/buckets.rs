//! Buckets of S3, GCS and Azure, with the names and credentials that the environment has for their own tools.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, Result, RetryConfig};

/// A model of a GiB at 30 MB a second takes half a minute; pointers and listings take none of it.
const REQUEST: Duration = Duration::from_secs(120);

const CONNECT: Duration = Duration::from_secs(5);

/// The next look tries again: a request that fails for long says that the store is away.
const RETRIES: usize = 2;
const RETRY: Duration = Duration::from_secs(10);

/// Opens `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; gives the store and the prefix.
pub(super) fn open(scheme: &str, rest: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    crate::tls::provide();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = Path::parse(prefix.trim_end_matches('/'))?;
    let client = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECT);
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY, ..RetryConfig::default() };
    let store: Arc<dyn ObjectStore> = match scheme {
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(client)
                .with_retry(retry)
                .build()?,
        ),
        "az" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_client_options(client)
                .with_retry(retry)
                .build()?,
        ),
        _ => Arc::new(
            // Over the options of the environment, which allow for plain HTTP to a store in the same network.
            AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build()?,
        ),
    };
    Ok((store, prefix))
}
