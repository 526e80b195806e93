//! The interface that this layer needs from the layer above.

use crate::measure::laps::Laps;
use crate::measure::owner::Owner;

/// Charges laps to their owners. One type implements this trait, and all hooks are compiled for that type. So no call
/// is indirect.
///
/// Each file of this layer that reports events declares a trait of its own. This trait is the base of those.
pub trait Charge: Sized + 'static {
    /// The identity of a main request.
    type Request: Copy + Eq;

    /// Runs `f` on the worker of this process, if the process measures. `f` must not call a function of NGINX that
    /// could call this module again.
    fn with<T>(f: impl FnOnce(&mut Self) -> T) -> Option<T>;

    /// The running lap and the sums of all laps.
    fn laps(&mut self) -> &mut Laps<Self::Request>;

    /// A lap of `ns` nanoseconds has ended.
    fn lap(&mut self, owner: Owner<Self::Request>, ns: u64);

    #[cfg(ngx_feature = "http_v2")]
    /// `ns` nanoseconds of laps that were [`Owner::Apart`] belong to `owner`.
    fn share(&mut self, owner: Owner<Self::Request>, ns: u64);

    /// Ends the running lap and charges it to its owner. The next lap has the same owner.
    ///
    /// This function is not inlined. So the clock and the charge are inlined into it, because no other function uses
    /// them.
    #[inline(never)]
    fn read_clock(&mut self) {
        let laps = self.laps();
        let (ns, owner) = (laps.end(), laps.owner());
        self.lap(owner, ns);
    }

    /// As [`Charge::read_clock`], but reads the clock of CPU time itself.
    fn read_clock_exactly(&mut self) {
        let laps = self.laps();
        let (ns, owner) = (laps.end_exactly(), laps.owner());
        self.lap(owner, ns);
    }

    /// Ends the running lap; the next one belongs to `owner`.
    #[inline]
    fn switch(&mut self, owner: Owner<Self::Request>) {
        self.read_clock();
        self.take(owner);
    }

    /// The running lap belongs to `owner` from its start.
    #[inline]
    fn take(&mut self, owner: Owner<Self::Request>) {
        self.laps().take(owner);
    }

    /// The owner of the running lap.
    #[inline]
    fn owner(&mut self) -> Owner<Self::Request> {
        self.laps().owner()
    }

    #[cfg(ngx_feature = "http_v2")]
    /// Ends the running lap, which was for several requests. Returns its length in nanoseconds, which the caller
    /// divides.
    fn set_lap_apart(&mut self) -> u64 {
        self.take(Owner::Apart);
        self.read_clock();
        self.laps().take_apart()
    }
}
