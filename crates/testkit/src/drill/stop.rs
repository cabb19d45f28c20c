//! Ending a drill before its time: what was broken is mended at once, and what was measured so far is reported.

use tokio::sync::watch;

/// The button; whoever holds it may press it.
#[derive(Debug)]
pub struct StopButton(watch::Sender<bool>);

/// What a drill looks at.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl StopButton {
    /// A button, and what it is connected to.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Presses it; more than once is as good as once.
    pub fn press(&self) {
        self.0.send_replace(true);
    }
}

impl Default for Stop {
    /// One that nobody can press.
    fn default() -> Self {
        StopButton::new().1
    }
}

impl Stop {
    /// True if it was pressed.
    pub fn is_pressed(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is pressed; never if nobody can press it any more.
    pub async fn pressed(&self) {
        if self.0.clone().wait_for(|pressed| *pressed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
