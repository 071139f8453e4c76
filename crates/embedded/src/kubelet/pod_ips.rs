//! Assigns a loopback address to each pod, so that several pods can listen on the same port.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// Addresses in use, and the offset of the next candidate.
#[derive(Debug, Default)]
pub(super) struct PodIps {
    used: Mutex<(HashSet<Ipv4Addr>, u32)>,
}

/// First address for pods; lower ones are left to the host.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([127, 1, 0, 1]);
const LAST_ADDRESS: u32 = u32::from_be_bytes([127, 254, 255, 254]);

impl PodIps {
    /// Returns an address that no other pod has.
    pub(crate) fn allocate(&self) -> Ipv4Addr {
        if cfg!(not(target_os = "linux")) {
            // Other systems have a single loopback address unless somebody adds more.
            return Ipv4Addr::LOCALHOST;
        }
        let mut guard = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, next) = &mut *guard;
        loop {
            let number = FIRST_ADDRESS + *next % (LAST_ADDRESS - FIRST_ADDRESS);
            *next = next.wrapping_add(1);
            let address = Ipv4Addr::from(number);
            // Skip what looks like a network or broadcast address.
            if !matches!(address.octets()[3], 0 | 255) && used.insert(address) {
                return address;
            }
        }
    }

    /// Reserves an address that a pod already has.
    pub(crate) fn reserve(&self, address: Ipv4Addr) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .insert(address);
    }

    /// Releases an address.
    pub(crate) fn release(&self, address: Ipv4Addr) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .remove(&address);
    }
}
