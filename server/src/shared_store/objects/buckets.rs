//! Buckets of S3, GCS and Azure, with the names and credentials that the environment has for their own tools.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, Result, RetryConfig};

/// A model of a GiB at 10 MB a second; pointers and listings take none of it.
const REQUEST: &str = "120 seconds";

const CONNECT: &str = "5 seconds";

/// The next look tries again: a request that fails for long says that the store is away.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.,
    },
    max_retries: 2,
    retry_timeout: Duration::from_secs(10),
};

/// Opens `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; gives the store and the prefix.
pub(super) fn open(scheme: &str, rest: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    crate::tls::provide();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = Path::parse(prefix.trim_end_matches('/'))?;
    // Options one by one, over those of the environment, such as plain HTTP to a store in the same network.
    let (request, connect) = (ClientConfigKey::Timeout, ClientConfigKey::ConnectTimeout);
    let store: Arc<dyn ObjectStore> = match scheme {
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_config(GoogleConfigKey::Client(request), REQUEST)
                .with_config(GoogleConfigKey::Client(connect), CONNECT)
                .with_bucket_name(bucket)
                .with_retry(RETRY)
                .build()?,
        ),
        "az" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_config(AzureConfigKey::Client(request), REQUEST)
                .with_config(AzureConfigKey::Client(connect), CONNECT)
                .with_container_name(bucket)
                .with_retry(RETRY)
                .build()?,
        ),
        _ => Arc::new(
            AmazonS3Builder::from_env()
                .with_config(AmazonS3ConfigKey::Client(request), REQUEST)
                .with_config(AmazonS3ConfigKey::Client(connect), CONNECT)
                .with_bucket_name(bucket)
                .with_retry(RETRY)
                .build()?,
        ),
    };
    Ok((store, prefix))
}
