/* The source of a CPU variant that was left out (llama_cpp_choose_variants). */
typedef int nothing;
