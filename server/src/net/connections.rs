//! How many connections there are, in all and of each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::metrics::Refused;

/// The connections that are open.
pub(crate) struct Connections {
    limit: usize,
    limit_per_address: usize,
    /// One permit per connection.
    permits: Arc<Semaphore>,
    /// Connections of each address that is not loopback.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// What a connection holds for as long as it lives.
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    _address: AddressPermit,
}

/// One of the connections of an address.
struct AddressPermit {
    /// None for loopback, whose connections are not counted.
    counted: Option<(IpAddr, Arc<Connections>)>,
}

impl Connections {
    pub(crate) fn new(config: &Config) -> Arc<Connections> {
        Arc::new(Connections {
            limit: config.max_connections,
            limit_per_address: config.max_connections_per_address,
            permits: Arc::new(Semaphore::new(config.max_connections)),
            addresses: Mutex::default(),
        })
    }

    /// Counts one more connection, or says which limit it is over.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<ConnectionPermit, Refused> {
        // First, since one address with too many connections is to blame for what it alone has.
        let address = self.count(ip).ok_or(Refused::Address)?;
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| Refused::All)?;
        Ok(ConnectionPermit { _permit: permit, _address: address })
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.limit - self.permits.available_permits()
    }

    /// Waits until none is open.
    pub(crate) async fn all_closed(&self) {
        let all = u32::try_from(self.limit).expect("checked by Config::validate");
        let _ = self.permits.acquire_many(all).await.expect("this semaphore is never closed");
    }

    fn count(self: &Arc<Self>, ip: IpAddr) -> Option<AddressPermit> {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Some(AddressPermit { counted: None });
        }
        let mut addresses = self.addresses();
        let count = addresses.entry(ip).or_default();
        if *count >= self.limit_per_address {
            return None;
        }
        *count += 1;
        Some(AddressPermit { counted: Some((ip, self.clone())) })
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some((ip, connections)) = &self.counted else { return };
        let mut addresses = connections.addresses();
        if let Some(count) = addresses.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max_connections: usize, max_connections_per_address: usize) -> Arc<Connections> {
        Connections::new(&Config { max_connections, max_connections_per_address, ..Config::default() })
    }

    #[test]
    fn each_limit_is_named_and_what_is_dropped_is_given_back() {
        let connections = connections(3, 2);
        let ip = |text: &str| text.parse().unwrap();
        let first = connections.admit(ip("10.0.0.1")).ok();
        let second = connections.admit(ip("::ffff:10.0.0.1")).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(connections.admit(ip("10.0.0.1")).err(), Some(Refused::Address));
        let loopback = connections.admit(ip("127.0.0.1")).ok();
        assert!(loopback.is_some());
        // A refusal for the limit of all connections takes nothing of the address.
        assert_eq!(connections.admit(ip("10.0.0.2")).err(), Some(Refused::All));
        assert_eq!(connections.addresses().len(), 1);
        assert_eq!(connections.open(), 3);
        drop((first, second, loopback));
        assert_eq!(connections.open(), 0);
        assert!(connections.addresses().is_empty());
    }
}
