//! How a training is shown while it goes on.

use ocelli_pipeline::{Observe, PipelineError};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::screen::Screen;
use crate::tensorboard::TensorBoard;

/// See the module.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct View {
    /// Events as JSON, one object a line, on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// A screen with live curves, speed, and what the network mixes up; q stops
    #[arg(long, conflicts_with = "json")]
    pub(crate) tui: bool,
    /// Also write an event file for TensorBoard into the run folder
    #[arg(long)]
    pub(crate) tensorboard: bool,
}

impl View {
    /// Does the work and shows what it tells.
    ///
    /// # Errors
    /// Where the terminal cannot be used; those of the work are in what it gives.
    pub(crate) fn watch<T>(
        self,
        interrupt: &Interrupt,
        out: &mut Output,
        work: impl FnOnce(Observe<'_>) -> Result<T, PipelineError>,
    ) -> Result<Result<T, PipelineError>, Failure> {
        let mut screen = if self.tui { Some(Screen::open(interrupt)?) } else { None };
        let mut progress = Progress::new(out, self.json);
        let mut board = self.tensorboard.then(TensorBoard::default);
        let result = work(&mut |event| {
            match &mut screen {
                Some(screen) => screen.show(event),
                None => progress.show(event, out),
            }
            if let Some(board) = &mut board {
                board.take(event);
            }
        });
        progress.finish();
        // What the screen said is gone with it.
        screen.into_iter().flat_map(Screen::close).for_each(|remark| out.say(remark));
        if let Some(error) = board.and_then(TensorBoard::finish) {
            out.warn(error);
        }
        Ok(result)
    }
}
