/* What an installed wheel's libraries compute where no Python runs: loads them as llama_cpp/_library.py
 * does, decodes greedily and prints what it found as JSON.
 *
 *     driver FOLDER MODEL LENGTH TOKEN,TOKEN... [TOKEN,... ...]
 *
 * FOLDER holds the libraries (llama_cpp/lib of the wheel), MODEL is a GGUF file. Each list of tokens is
 * a prompt, answered on one thread with LENGTH tokens, fewer where the answer ends itself:
 *
 *     {"devices": ["CPU: ..."], "libraries": ["libggml-base.so", ...], "answers": [[1, 2, ...], ...]}
 *
 * Exit code 0, or 1 and a line on standard error that says what failed.
 */
#ifdef __linux__
#define _GNU_SOURCE
#endif
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
/* after windows.h, which it needs */
#include <psapi.h>
#define PREFIX ""
#define SUFFIX ".dll"
typedef HMODULE library_t;
#else
#include <dlfcn.h>
#include <limits.h>
#define PREFIX "lib"
#ifdef __APPLE__
#include <mach-o/dyld.h>
#define SUFFIX ".dylib"
#else
#include <link.h>
#define SUFFIX ".so"
#endif
typedef void * library_t;
#endif

#include "ggml-backend.h"
#include "llama.h"

#define CONTEXT 512

static void fail(const char * format, ...) {
    va_list arguments;
    va_start(arguments, format);
    /* what was printed so far is half a line */
    putchar('\n');
    fflush(stdout);
    fputs("driver: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* ---- libraries: a name is looked up in the library that defines it, as Windows wants it ---------- */

static library_t open_library(const char * folder, const char * name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/" PREFIX "%s" SUFFIX, folder, name);
#ifdef _WIN32
    /* what ctypes.CDLL asks for with a full path; SEARCH_USER_DIRS is os.add_dll_directory */
    char full[4096];
    if (GetFullPathNameA(path, sizeof full, full, NULL) == 0) {
        fail("%s: error %lu", path, GetLastError());
    }
    library_t library = LoadLibraryExA(full, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS | LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR);
    if (library == NULL) {
        fail("%s: error %lu", full, GetLastError());
    }
#else
    library_t library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fail("%s", dlerror());
    }
#endif
    return library;
}

static void * look_up(library_t library, const char * name) {
#ifdef _WIN32
    void * function = (void *) GetProcAddress(library, name);
#else
    void * function = dlsym(library, name);
#endif
    if (function == NULL) {
        fail("no function %s in the library that should have it", name);
    }
    return function;
}

static void add_folder(const char * folder) {
#ifdef _WIN32
    char full[4096];
    wchar_t wide[4096];
    GetFullPathNameA(folder, sizeof full, full, NULL);
    MultiByteToWideChar(CP_ACP, 0, full, -1, wide, 4096);
    if (AddDllDirectory(wide) == NULL) {
        fail("AddDllDirectory(%s): error %lu", full, GetLastError());
    }
#else
    (void) folder;
#endif
}

/* ---- JSON ---------------------------------------------------------------------------------------- */

static void print_text(const char * text) {
    for (; *text != '\0'; ++text) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        putchar((unsigned char) *text < ' ' ? ' ' : *text);
    }
}

static void print_file_name(const char * path) {
    const char * name = path;
    for (const char * at = path; *at != '\0'; ++at) {
        if (*at == '/' || *at == '\\') {
            name = at + 1;
        }
    }
    print_text(name);
}

/* those with ggml or llama in their names */
static void print_if_ours(const char * path, bool * first) {
    const char * name = path;
    for (const char * at = path; *at != '\0'; ++at) {
        if (*at == '/' || *at == '\\') {
            name = at + 1;
        }
    }
    if (strncmp(name, "lib", 3) == 0) {
        name += 3;
    }
    if (strncmp(name, "ggml", 4) != 0 && strncmp(name, "llama", 5) != 0) {
        return;
    }
    fputs(*first ? "\"" : ", \"", stdout);
    print_file_name(path);
    putchar('"');
    *first = false;
}

#if !defined(_WIN32) && !defined(__APPLE__)
/* the module that the registered CPU lies in */
static const char * cpu_module;

static int visit(struct dl_phdr_info * info, size_t size, void * first) {
    (void) size;
    /* musl's dlclose unloads nothing: the variants that ggml has only asked for their score are there, too */
    if (cpu_module != NULL && strstr(info->dlpi_name, "ggml-cpu-") != NULL && strcmp(info->dlpi_name, cpu_module) != 0) {
        return 0;
    }
    print_if_ours(info->dlpi_name, first);
    return 0;
}
#endif

static void print_libraries(void) {
    bool first = true;
#ifdef _WIN32
    HMODULE modules[1024];
    DWORD needed = 0;
    char path[4096];
    if (!K32EnumProcessModules(GetCurrentProcess(), modules, sizeof modules, &needed)) {
        fail("EnumProcessModules: error %lu", GetLastError());
    }
    for (DWORD index = 0; index < needed / sizeof(HMODULE) && index < 1024; ++index) {
        if (GetModuleFileNameA(modules[index], path, sizeof path) != 0) {
            print_if_ours(path, &first);
        }
    }
#elif defined(__APPLE__)
    for (uint32_t index = 0; index < _dyld_image_count(); ++index) {
        print_if_ours(_dyld_get_image_name(index), &first);
    }
#else
    dl_iterate_phdr(visit, &first);
#endif
}

/* ---- the answer ---------------------------------------------------------------------------------- */

static void say_errors(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static int read_tokens(const char * list, llama_token * tokens) {
    int count = 0;
    for (const char * at = list; *at != '\0';) {
        char * end = NULL;
        if (count == CONTEXT) {
            fail("a prompt has more than %d tokens", CONTEXT);
        }
        tokens[count++] = (llama_token) strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0')) {
            fail("not a list of tokens: %s", list);
        }
        at = *end == ',' ? end + 1 : end;
    }
    return count;
}

#define FROM(library, name) __typeof__(&name) p_##name = (__typeof__(&name)) look_up(library, #name)

int main(int argc, char ** argv) {
    if (argc < 5) {
        fail("give FOLDER MODEL LENGTH TOKEN,TOKEN... [TOKEN,... ...]");
    }
    const char * folder = argv[1];
    int length = atoi(argv[3]);
    add_folder(folder);
    library_t ggml_base = open_library(folder, "ggml-base");
    library_t ggml = open_library(folder, "ggml");
    library_t llama = open_library(folder, "llama");

    FROM(llama, llama_log_set);
    FROM(ggml, ggml_backend_load_all_from_path);
    FROM(ggml, ggml_backend_dev_count);
    FROM(ggml, ggml_backend_dev_get);
#if !defined(_WIN32) && !defined(__APPLE__)
    FROM(ggml, ggml_backend_reg_by_name);
#endif
    FROM(ggml_base, ggml_backend_dev_name);
    FROM(ggml_base, ggml_backend_dev_description);
    FROM(llama, llama_backend_init);
    FROM(llama, llama_model_default_params);
    FROM(llama, llama_model_load_from_file);
    FROM(llama, llama_model_get_vocab);
    FROM(llama, llama_vocab_n_tokens);
    FROM(llama, llama_vocab_is_eog);
    FROM(llama, llama_context_default_params);
    FROM(llama, llama_init_from_model);
    FROM(llama, llama_get_memory);
    FROM(llama, llama_memory_clear);
    FROM(llama, llama_batch_get_one);
    FROM(llama, llama_decode);
    FROM(llama, llama_get_logits_ith);
    FROM(llama, llama_free);
    FROM(llama, llama_model_free);
    FROM(llama, llama_backend_free);

    p_llama_log_set(say_errors, NULL);
    p_ggml_backend_load_all_from_path(folder);
    p_llama_backend_init();
    fputs("{\"devices\": [", stdout);
    for (size_t index = 0; index < p_ggml_backend_dev_count(); ++index) {
        ggml_backend_dev_t device = p_ggml_backend_dev_get(index);
        fputs(index == 0 ? "\"" : ", \"", stdout);
        print_text(p_ggml_backend_dev_name(device));
        fputs(": ", stdout);
        print_text(p_ggml_backend_dev_description(device));
        putchar('"');
    }
#if !defined(_WIN32) && !defined(__APPLE__)
    Dl_info found;
    ggml_backend_reg_t cpu = p_ggml_backend_reg_by_name("CPU");
    if (cpu != NULL && dladdr(cpu, &found) != 0) {
        cpu_module = found.dli_fname;
    }
#endif
    fputs("], \"libraries\": [", stdout);
    print_libraries();
    fputs("], \"answers\": [", stdout);

    struct llama_model_params model_params = p_llama_model_default_params();
    model_params.n_gpu_layers = 0;
    struct llama_model * model = p_llama_model_load_from_file(argv[2], model_params);
    if (model == NULL) {
        fail("%s does not load", argv[2]);
    }
    const struct llama_vocab * vocab = p_llama_model_get_vocab(model);
    int words = p_llama_vocab_n_tokens(vocab);
    struct llama_context_params params = p_llama_context_default_params();
    params.n_ctx = params.n_batch = CONTEXT;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context * context = p_llama_init_from_model(model, params);
    if (context == NULL) {
        fail("there is no context for %s", argv[2]);
    }
    for (int prompt = 4; prompt < argc; ++prompt) {
        llama_token tokens[CONTEXT];
        int count = read_tokens(argv[prompt], tokens);
        p_llama_memory_clear(p_llama_get_memory(context), true);
        fputs(prompt == 4 ? "[" : ", [", stdout);
        for (int step = 0; step < length; ++step) {
            if (p_llama_decode(context, p_llama_batch_get_one(tokens, count)) != 0) {
                fail("token %d of prompt %d is not decoded", step, prompt - 4);
            }
            const float * logits = p_llama_get_logits_ith(context, -1);
            llama_token best = 0;
            for (llama_token token = 1; token < words; ++token) {
                if (logits[token] > logits[best]) {
                    best = token;
                }
            }
            printf(step == 0 ? "%d" : ", %d", best);
            if (p_llama_vocab_is_eog(vocab, best)) {
                break;
            }
            tokens[0] = best;
            count = 1;
        }
        putchar(']');
    }
    puts("]}");
    p_llama_free(context);
    p_llama_model_free(model);
    p_llama_backend_free();
    return 0;
}
