//! Compiles `src/api/variadic.c`: Rust cannot define functions with a variable number of arguments.

fn main() {
    println!("cargo::rerun-if-changed=src/api/variadic.c");
    cc::Build::new()
        .file("src/api/variadic.c")
        .pic(true)
        .warnings_into_errors(true)
        .compile("vix_sim_variadic");
    // Its jobs have threads: the library stays where it is when a program closes it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
