//! `vix-sim-guest`: a running guest of the simulator.

fn main() -> std::process::ExitCode {
    vix::guest_process::main()
}
