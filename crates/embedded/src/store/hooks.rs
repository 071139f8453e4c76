//! What runs within the store's transactions.

use tokio::time::Instant;

use super::transaction::Transaction;

/// Reacts to changes within the transaction that makes them. The changes that it makes are part of the same transaction.
///
/// Between transactions, it keeps only what it can rebuild from the store.
pub(crate) trait TransactionHooks: Send {
    /// Called in the first transaction.
    fn on_open(&mut self, transaction: &mut Transaction<'_>);

    /// Called after each work item: [`Transaction::take_changes`] returns what it has changed.
    fn on_changes(&mut self, transaction: &mut Transaction<'_>);

    /// Called at the end of each transaction: does what is due by now.
    fn on_timers(&mut self, transaction: &mut Transaction<'_>);

    /// When the next timer is due.
    fn next_timer(&self) -> Option<Instant>;

    /// Called after a transaction was rolled back, whose changes it may have seen.
    fn on_rollback(&mut self);
}

/// Does nothing.
#[cfg(test)]
pub(crate) struct NoHooks;

#[cfg(test)]
impl TransactionHooks for NoHooks {
    fn on_open(&mut self, _: &mut Transaction<'_>) {}

    fn on_changes(&mut self, _: &mut Transaction<'_>) {}

    fn on_timers(&mut self, _: &mut Transaction<'_>) {}

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn on_rollback(&mut self) {}
}
