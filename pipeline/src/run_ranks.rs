//! What the ranks of a run say to each other between its steps and its epochs.

use crate::error::PipelineError;
use crate::progress::EpochRow;
use crate::ranks::{from_bytes, to_bytes};
use crate::run::Run;

impl Run<'_> {
    /// Checks that all ranks have the same weights after the steps of an epoch.
    ///
    /// # Errors
    /// [`PipelineError::Rank`], on all of them.
    pub(crate) fn check_ranks(&self, epoch: u32) -> Result<(), PipelineError> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let own = fingerprint(self.trainer.model().params());
        let all = self.ranks.gather(&[f64::from((own >> 32) as u32), f64::from(own as u32)]);
        let other = all.chunks_exact(2).position(|rank| rank != &all[..2]);
        let Some(rank) = other else { return Ok(()) };
        let reason = format!(
            "its weights differ from those of rank 0 after the steps of epoch {epoch}: a processor, memory or program is not as on the other hosts; the last epoch before is kept"
        );
        Err(PipelineError::Rank { name: self.ranks.name_of(rank), reason })
    }

    /// Takes in what rank 0 made of an epoch, `row` on that rank; false where the stop flag broke it off.
    pub(crate) fn follow(&mut self, row: Option<EpochRow>) -> Result<bool, PipelineError> {
        if self.ranks.size() == 1 {
            return Ok(row.is_some());
        }
        let row: Option<EpochRow> = from_bytes(&self.ranks.of_first(&to_bytes(&row)));
        let goes_on = row.is_some();
        if !self.ranks.is_first()
            && let Some(row) = row
        {
            self.progress.add(row);
        }
        Ok(goes_on)
    }
}

/// A number that differs, but for a chance of 2^-64, where any bit of the parameters does.
fn fingerprint(params: &[f32]) -> u64 {
    // FNV-1a over words: no secret, and fast.
    params.iter().fold(0xcbf2_9ce4_8422_2325, |hash, param| {
        (hash ^ u64::from(param.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
