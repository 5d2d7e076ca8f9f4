//! Compiles `src/api/variadic.c`: Rust cannot define functions with a variable number of arguments.

fn main() {
    println!("cargo::rerun-if-changed=src/api/variadic.c");
    cc::Build::new()
        .file("src/api/variadic.c")
        .pic(true)
        .warnings_into_errors(true)
        .compile("vix_sim_variadic");
}
