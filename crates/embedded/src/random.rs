//! What is drawn by lot: identities, and the ends of generated names.

use fastrand::Rng;

/// Where the lots come from.
#[derive(Debug, Default)]
pub(crate) struct Random {
    /// A sequence that can be had again; `None` for lots that nobody can foresee.
    sequence: Option<Rng>,
}

impl Random {
    /// Lots that are the same for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            sequence: Some(Rng::with_seed(seed)),
        }
    }

    /// An identity for an object.
    pub fn uid(&mut self) -> String {
        match &mut self.sequence {
            None => uuid::Uuid::new_v4(),
            Some(sequence) => uuid::Builder::from_random_bytes(sequence.u128(..).to_ne_bytes()).into_uuid(),
        }
        .to_string()
    }

    /// The end of a generated name: five characters without vowels, so that no word comes out.
    pub fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut lot = || match &mut self.sequence {
            None => fastrand::usize(..ALPHABET.len()),
            Some(sequence) => sequence.usize(..ALPHABET.len()),
        };
        (0..5).map(|_| char::from(ALPHABET[lot()])).collect()
    }
}
