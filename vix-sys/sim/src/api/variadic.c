/* The functions with a variable number of arguments, in both forms: the names that programs call, and
 * the ...Vargs names that VMware's wrapper library calls with a va_list. C alone can define them. Rust
 * reads the arguments one after the other, up to the 0 that ends them, and not one more. */

#include <stdarg.h>
#include <stdint.h>

typedef struct {
    va_list list;
} Arguments;

int32_t vix_sim_next_int(Arguments *arguments) { return va_arg(arguments->list, int); }

int64_t vix_sim_next_int64(Arguments *arguments) { return va_arg(arguments->list, int64_t); }

void *vix_sim_next_pointer(Arguments *arguments) { return va_arg(arguments->list, void *); }

/* The bodies, in variadic.rs. */
uint64_t vix_sim_get_properties(int32_t handle, int32_t first, Arguments *more);
uint64_t vix_sim_wait(int32_t job, int32_t first, Arguments *more);
uint64_t vix_sim_get_nth_properties(int32_t job, int32_t index, int32_t first, Arguments *more);
uint64_t vix_sim_alloc_property_list(int32_t any, int32_t *list, int32_t first, Arguments *more);

uint64_t vix_sim_c_get_properties(int32_t handle, int32_t first, ...) {
    Arguments more;
    va_start(more.list, first);
    uint64_t error = vix_sim_get_properties(handle, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_wait(int32_t job, int32_t first, ...) {
    Arguments more;
    va_start(more.list, first);
    uint64_t error = vix_sim_wait(job, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_get_nth_properties(int32_t job, int32_t index, int32_t first, ...) {
    Arguments more;
    va_start(more.list, first);
    uint64_t error = vix_sim_get_nth_properties(job, index, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_alloc_property_list(int32_t any, int32_t *list, int32_t first, ...) {
    Arguments more;
    va_start(more.list, first);
    uint64_t error = vix_sim_alloc_property_list(any, list, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_get_properties_vargs(int32_t handle, int32_t first, va_list given) {
    Arguments more;
    va_copy(more.list, given);
    uint64_t error = vix_sim_get_properties(handle, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_wait_vargs(int32_t job, int32_t first, va_list given) {
    Arguments more;
    va_copy(more.list, given);
    uint64_t error = vix_sim_wait(job, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_get_nth_properties_vargs(int32_t job, int32_t index, int32_t first, va_list given) {
    Arguments more;
    va_copy(more.list, given);
    uint64_t error = vix_sim_get_nth_properties(job, index, first, &more);
    va_end(more.list);
    return error;
}

uint64_t vix_sim_c_alloc_property_list_vargs(int32_t any, int32_t *list, int32_t first, va_list given) {
    Arguments more;
    va_copy(more.list, given);
    uint64_t error = vix_sim_alloc_property_list(any, list, first, &more);
    va_end(more.list);
    return error;
}
