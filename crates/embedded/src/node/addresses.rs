//! A loopback address for each pod, so that pods can listen on the same port.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// Addresses in use.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    used: Mutex<(HashSet<Ipv4Addr>, u32)>,
}

/// The first address that is given; everything before it is the host's.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 1]);
const LAST: u32 = u32::from_be_bytes([127, 254, 255, 254]);

impl Addresses {
    /// An address that no other pod has.
    pub fn take(&self) -> Ipv4Addr {
        if cfg!(not(target_os = "linux")) {
            // Other systems have one loopback address unless somebody adds more.
            return Ipv4Addr::LOCALHOST;
        }
        let mut guard = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, next) = &mut *guard;
        loop {
            let number = FIRST + *next % (LAST - FIRST);
            *next = next.wrapping_add(1);
            let address = Ipv4Addr::from(number);
            // Network and broadcast addresses confuse people.
            if !matches!(address.octets()[3], 0 | 255) && used.insert(address) {
                return address;
            }
        }
    }

    /// An address that a pod has already.
    pub fn keep(&self, address: Ipv4Addr) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .insert(address);
    }

    /// An address is free again.
    pub fn free(&self, address: Ipv4Addr) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .remove(&address);
    }
}
