//! TLS in front of HTTP, by rustls. Named here and nowhere else.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::error::ServerError;
use crate::net::stream::Stream;

/// Makes the provider of cryptography the one that clients in this process take, too.
#[cfg(feature = "cloud")]
pub(crate) fn provide() {
    // An error means that there is one already.
    let _ = ring::default_provider().install_default();
}

/// A certificate with its key: TLS 1.2 and 1.3, no client certificates.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Takes a chain of certificates, the service's own first, and its private key, both as PEM (RFC 7468).
    ///
    /// # Errors
    /// [`ServerError::Tls`] for a text without one, and a key that is not the certificate's.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Tls, ServerError> {
        let bad = |reason: &'static str| move |_| ServerError::Tls { reason };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let chain = chain.map_err(bad("the certificate file is not PEM"))?;
        if chain.is_empty() {
            return Err(ServerError::Tls { reason: "the certificate file holds no certificate" });
        }
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(bad("the key file holds no private key in PEM"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|_| ServerError::Tls { reason: "the private key does not belong to the certificate" })?;
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// The handshake of one connection; its time is limited by the stream below. An error is the client's.
    pub(crate) async fn accept(&self, stream: Stream) -> std::io::Result<TlsStream<Stream>> {
        self.0.accept(stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
