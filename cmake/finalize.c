/* What crtbeginS.o does in a library that gcc links, and nothing does in one that zig links: run the
 * library's own exit handlers (destructors of C++ statics) when it is unloaded. ggml unloads a module
 * that finds no device; without this the process would call into the unmapped library at its end. */
extern void * __dso_handle __attribute__((visibility("hidden")));
extern void __cxa_finalize(void * dso);

__attribute__((destructor)) static void llama_cpp_finalize(void) {
    __cxa_finalize(&__dso_handle);
}
