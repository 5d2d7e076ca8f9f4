//! The process of files: does one work after the other until its input ends, and ends at once then, whatever it is in.

use std::{
    io::Read,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::process::{Signal, getpid, kill_process};
use virtuozo_runtime::LIMITS;

use crate::{
    activity::{Activity, this_thread},
    frames,
    line::{Handler, Line},
    messages::{FromProcess, Pulse, ToProcess},
    start::take_stdio,
};

/// Runs the process: does what `handler` can until standard input ends. Then nobody waits for what it does, and another
/// process may do the same already, so it kills itself.
pub fn run_file_process(handler: Handler) -> ExitCode {
    let (input, output) = match take_stdio() {
        Ok(pipes) => pipes,
        Err(error) => {
            eprintln!("a process of files cannot use its standard input and output: {error}");
            return ExitCode::FAILURE;
        }
    };
    let line = Arc::new(Line::new(Box::new(output)));
    let busy = Arc::new(AtomicBool::new(false));
    let reader = this_thread();
    let pulse = {
        let (line, busy) = (Arc::clone(&line), Arc::clone(&busy));
        thread::Builder::new()
            .name("pulse".to_owned())
            .spawn(move || tell_pulse(&line, &busy, reader))
    };
    match pulse {
        Ok(_) => serve(input, &line, &busy, &handler),
        Err(error) => eprintln!("a process of files cannot start a thread: {error}"),
    }
    let _ = kill_process(getpid(), Signal::KILL);
    ExitCode::SUCCESS
}

/// Serves on this thread until the input ends or holds nonsense. Work goes on on a thread of its own.
pub(crate) fn serve(
    mut input: impl Read,
    line: &Arc<Line>,
    busy: &Arc<AtomicBool>,
    handler: &Handler,
) {
    while let Ok(message) = frames::read::<ToProcess>(&mut input) {
        match message {
            ToProcess::Allow { allowed_ms } => line.allow(allowed_ms),
            ToProcess::Answer { question, answer } => line.answer(question, answer),
            ToProcess::Begin {
                work,
                request,
                allowed_ms,
            } => {
                line.begin(allowed_ms);
                busy.store(true, Ordering::SeqCst);
                let (of_work, still_busy) = (Arc::clone(line), Arc::clone(busy));
                let handler = Arc::clone(handler);
                let begun = thread::Builder::new().name(work.clone()).spawn(move || {
                    // A panic ends the thread, and `Ends` the process.
                    let ends = Ends(Arc::clone(&of_work));
                    let answer = handler(&work, request, &of_work);
                    still_busy.store(false, Ordering::SeqCst);
                    of_work.send(&FromProcess::Done(answer));
                    std::mem::forget(ends);
                });
                if begun.is_err() {
                    break;
                }
            }
        }
    }
    line.close();
}

/// Closes the line of work that panics: whoever waits for it is not left to wait.
struct Ends(Arc<Line>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

fn tell_pulse(line: &Line, busy: &AtomicBool, reader: i32) {
    let mut activity = Activity::apart_from(reader);
    loop {
        thread::sleep(LIMITS.files.look_every);
        if busy.load(Ordering::SeqCst) {
            line.send(&FromProcess::Pulse(Pulse {
                moves: activity.look(),
                within: line.waits_longest_for(),
            }));
        }
    }
}
