//! Generates random UIDs, and suffixes of generated names.

use fastrand::Rng;

#[derive(Debug, Default)]
pub(crate) struct Random {
    /// A reproducible sequence, for simulations; `None` for unpredictable values.
    sequence: Option<Rng>,
}

impl Random {
    /// Always yields the same values for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            sequence: Some(Rng::with_seed(seed)),
        }
    }

    pub(crate) fn uid(&mut self) -> String {
        match &mut self.sequence {
            None => uuid::Uuid::new_v4(),
            Some(sequence) => uuid::Builder::from_random_bytes(sequence.u128(..).to_ne_bytes()).into_uuid(),
        }
        .to_string()
    }

    /// The suffix of a generated name: five characters of Kubernetes' alphabet (`k8s.io/apimachinery/pkg/util/rand`),
    /// which has no vowels, so that suffixes don't spell words.
    pub(crate) fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut lot = || match &mut self.sequence {
            None => fastrand::usize(..ALPHABET.len()),
            Some(sequence) => sequence.usize(..ALPHABET.len()),
        };
        (0..5).map(|_| char::from(ALPHABET[lot()])).collect()
    }
}
