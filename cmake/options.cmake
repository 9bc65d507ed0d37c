# The options that somebody gives to a build: known ones, names of the past, misspelt ones, and those
# that exclude each other. All of it runs before project(), so that a mistake is told at once. pip shows
# warnings only with -v: what would silently make another build than the one asked for is an error.

get_filename_component(llama_cpp_folder "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)

# names of the past whose successor is not GGML_ in place of LLAMA_
set(llama_cpp_old_options
    LLAMA_CUBLAS=GGML_CUDA GGML_CUBLAS=GGML_CUDA
    LLAMA_HIPBLAS=GGML_HIP GGML_HIPBLAS=GGML_HIP
    LLAMA_OPENBLAS=GGML_BLAS GGML_OPENBLAS=GGML_BLAS
    LLAMA_CLBLAST=GGML_VULKAN GGML_CLBLAST=GGML_VULKAN
    LLAMA_KOMPUTE=GGML_VULKAN GGML_KOMPUTE=GGML_VULKAN
    LLAMA_CUDA_ARCHITECTURES=CMAKE_CUDA_ARCHITECTURES GGML_CUDA_ARCHITECTURES=CMAKE_CUDA_ARCHITECTURES
    CUDA_ARCHITECTURES=CMAKE_CUDA_ARCHITECTURES CMAKE_CUDA_ARCHITECTURE=CMAKE_CUDA_ARCHITECTURES
    CMAKE_CUDA_ARCHS=CMAKE_CUDA_ARCHITECTURES CUDA_DOCKER_ARCH=CMAKE_CUDA_ARCHITECTURES
    LLAMA_BUILD=LLAMA_CPP_PREBUILT)
# of no effect, and nobody gets another build than the one asked for
set(llama_cpp_idle_options
    "LLAVA_BUILD=the multimodal library mtmd is always built"
    "MTMD_BUILD=the multimodal library mtmd is always built"
    "LLAMA_CURL=nothing here downloads models in C++")

# Names of the cache entries that were given in this run, by -D or `-C cmake.define`: such an entry has
# no help text until an option() or set() of a project declares it.
function(llama_cpp_given result)
    get_cmake_property(names CACHE_VARIABLES)
    set(given "")
    foreach (name IN LISTS names)
        get_property(help CACHE ${name} PROPERTY HELPSTRING)
        get_property(type CACHE ${name} PROPERTY TYPE)
        if (NOT type MATCHES "INTERNAL|STATIC"
                AND (help MATCHES "^(No help, variable specified on the command line[.])?$"
                    # CMake has a help text for its own
                    OR name MATCHES "^CMAKE_(CUDA|HIP)_(ARCHITECTURES|FLAGS)$"))
            list(APPEND given ${name})
        endif()
    endforeach()
    set(${result} "${given}" PARENT_SCOPE)
endfunction()

# The options that the CMake files of the tree and ours declare, and every word there that could be one.
function(llama_cpp_known_options declared_result words_result source)
    file(GLOB files "${source}/CMakeLists.txt" "${source}/cmake/*.cmake" "${source}/src/CMakeLists.txt"
         "${source}/ggml/CMakeLists.txt" "${source}/ggml/cmake/*.cmake" "${source}/ggml/src/CMakeLists.txt"
         "${source}/ggml/src/*/CMakeLists.txt" "${source}/ggml/src/*/*/CMakeLists.txt"
         "${source}/tools/mtmd/CMakeLists.txt")
    list(APPEND files "${llama_cpp_folder}/CMakeLists.txt" "${llama_cpp_folder}/cmake/cuda.cmake")
    set(declared "")
    set(words "")
    foreach (file IN LISTS files)
        file(READ "${file}" text)
        string(REPLACE ";" "," text "${text}")
        # the lines that only name what was renamed
        string(REGEX REPLACE "llama_option_depr[^\n]*" "" text "${text}")
        string(REGEX MATCHALL "(GGML|LLAMA|MTMD)_[A-Za-z0-9_]+" found "${text}")
        list(APPEND words ${found})
        string(REGEX MATCHALL "option *\\( *(GGML|LLAMA|MTMD)_[A-Z0-9_]+|set *\\( *(GGML|LLAMA|MTMD)_[A-Z0-9_]+ [^\n]*CACHE"
               found "${text}")
        list(TRANSFORM found REPLACE ".*[(] *([A-Z0-9_]+).*" "\\1")
        list(APPEND declared ${found})
    endforeach()
    list(REMOVE_DUPLICATES declared)
    list(REMOVE_DUPLICATES words)
    set(${declared_result} "${declared}" PARENT_SCOPE)
    set(${words_result} "${words}" PARENT_SCOPE)
endfunction()

# Levenshtein's distance of two names.
function(llama_cpp_edit_distance result first second)
    string(LENGTH "${first}" rows)
    string(LENGTH "${second}" columns)
    foreach (column RANGE ${columns})
        set(above_${column} ${column})
    endforeach()
    foreach (row RANGE 1 ${rows})
        set(diagonal ${above_0})
        set(above_0 ${row})
        math(EXPR at "${row} - 1")
        string(SUBSTRING "${first}" ${at} 1 letter)
        foreach (column RANGE 1 ${columns})
            math(EXPR at "${column} - 1")
            string(SUBSTRING "${second}" ${at} 1 other)
            set(best ${diagonal})
            if (NOT letter STREQUAL other)
                if (above_${at} LESS best)
                    set(best ${above_${at}})
                endif()
                if (above_${column} LESS best)
                    set(best ${above_${column}})
                endif()
                math(EXPR best "${best} + 1")
            endif()
            set(diagonal ${above_${column}})
            set(above_${column} ${best})
        endforeach()
    endforeach()
    set(${result} ${above_${columns}} PARENT_SCOPE)
endfunction()

# The name among the options that `name` was probably meant to be, or nothing.
function(llama_cpp_nearest_option result name)
    string(LENGTH "${name}" length)
    # one mistake in six letters, and two in any name
    math(EXPR least "${length} / 6 + 1")
    if (least LESS 3)
        set(least 3)
    endif()
    set(nearest "")
    foreach (option IN LISTS ARGN)
        string(LENGTH "${option}" other)
        math(EXPR difference "${length} - ${other}")
        if (difference LESS least AND difference GREATER -${least})
            llama_cpp_edit_distance(distance "${name}" "${option}")
            if (distance LESS least)
                set(least ${distance})
                set(nearest "${option}")
            endif()
        endif()
    endforeach()
    set(${result} "${nearest}" PARENT_SCOPE)
endfunction()

# Stops at given names (the further arguments) that are no options of the tree in `source`, or no longer.
function(llama_cpp_check_names source)
    llama_cpp_known_options(declared words "${source}")
    set(own ${declared})
    list(FILTER own INCLUDE REGEX "^LLAMA_CPP_")
    set(problems "")
    foreach (name IN LISTS ARGN)
        set(successor "")
        foreach (pair IN LISTS llama_cpp_old_options)
            if (pair MATCHES "^${name}=(.+)$")
                set(successor "${CMAKE_MATCH_1}")
            endif()
        endforeach()
        foreach (pair IN LISTS llama_cpp_idle_options)
            if (pair MATCHES "^${name}=(.+)$")
                message(WARNING "${name} has no effect: ${CMAKE_MATCH_1}.\n  -> leave it out")
                set(successor "none")
            endif()
        endforeach()
        if (NOT successor AND name MATCHES "^LLAMA_(.+)$" AND NOT name IN_LIST declared)
            if ("GGML_${CMAKE_MATCH_1}" IN_LIST declared)
                set(successor "GGML_${CMAKE_MATCH_1}")
            endif()
        endif()
        if (successor STREQUAL "none")
            continue()
        elseif (name STREQUAL "LLAMA_BUILD")
            if (NOT LLAMA_BUILD)
                string(APPEND problems "LLAMA_BUILD=${LLAMA_BUILD} is no option here.\n  -> to wrap what somebody else"
                       " built: -DLLAMA_CPP_PREBUILT=FOLDER, with lib/ and include/ of that build\n")
            endif()
        elseif (successor)
            set(more "")
            if (name MATCHES "OPENBLAS")
                set(more ", and GGML_BLAS_VENDOR=OpenBLAS")
            endif()
            string(APPEND problems "${name} is now ${successor}.\n  -> -D${successor}=${${name}} in place of it"
                   " (pip, uv: -C cmake.define.${successor}=${${name}})${more}\n")
        elseif (name MATCHES "^LLAMA_CPP_")
            if (NOT name IN_LIST own)
                llama_cpp_nearest_option(nearest ${name} ${own})
                if (NOT nearest)
                    list(JOIN own ", " nearest)
                endif()
                string(APPEND problems "${name} is no option of this package.\n  -> did you mean ${nearest}?\n")
            endif()
        elseif (EXISTS "${source}/CMakeLists.txt" AND name MATCHES "^(GGML|LLAMA|MTMD)_" AND NOT name IN_LIST words)
            llama_cpp_nearest_option(nearest ${name} ${declared})
            if (nearest)
                string(APPEND problems "${name} is no option of llama.cpp.\n  -> did you mean ${nearest}?\n")
            else()
                string(APPEND problems "${name} is no option of llama.cpp.\n"
                       "  -> leave it out; the options are listed in ${source}/ggml/CMakeLists.txt\n")
            endif()
        endif()
    endforeach()
    if (problems)
        string(STRIP "${problems}" problems)
        message(FATAL_ERROR "${problems}")
    endif()
endfunction()

# Stops at options that exclude each other, or that this system has nothing for.
function(llama_cpp_check_values)
    foreach (partner GGML_CPU_ALL_VARIANTS GGML_BACKEND_DL)
        if (GGML_NATIVE AND ${partner})
            message(FATAL_ERROR "GGML_NATIVE=ON compiles for this machine's CPU alone, ${partner}=ON is for builds"
                    " that pick one at run time.\n"
                    "  -> give one of them: GGML_NATIVE=ON for this machine, none for all machines")
        endif()
    endforeach()
    if (GGML_CPU_ALL_VARIANTS AND DEFINED GGML_BACKEND_DL AND NOT GGML_BACKEND_DL)
        message(FATAL_ERROR "GGML_CPU_ALL_VARIANTS=ON needs GGML_BACKEND_DL=ON: each CPU variant is a library"
                " that is loaded at run time.\n  -> leave GGML_BACKEND_DL out")
    endif()
    if (DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS OR GGML_STATIC)
        message(FATAL_ERROR "Python loads shared libraries, so BUILD_SHARED_LIBS must be ON and GGML_STATIC OFF.\n"
                "  -> leave both out")
    endif()
    set(variants ON)
    foreach (name GGML_CPU_ALL_VARIANTS GGML_BACKEND_DL)
        if (DEFINED ${name} AND NOT ${name})
            set(variants OFF)
        endif()
    endforeach()
    set(levels ${ARGN})
    list(FILTER levels INCLUDE REGEX "^GGML_(SSE42|AVX|AVX2|AVX_VNNI|AVX512.*|FMA|F16C|BMI2|AMX_.*)$")
    if (levels AND variants AND NOT GGML_NATIVE)
        list(JOIN levels ", " levels)
        message(WARNING "No effect have: ${levels}. The build holds every CPU variant and the best one that the machine"
                " can run is picked at run time.\n"
                "  -> leave them out, or add GGML_CPU_ALL_VARIANTS=OFF and GGML_BACKEND_DL=OFF for a single level")
    endif()
    if (GGML_METAL AND NOT CMAKE_TOOLCHAIN_FILE)
        set(system "${CMAKE_SYSTEM_NAME}")
        if (NOT system)
            cmake_host_system_information(RESULT system QUERY OS_NAME)
        endif()
        if (NOT system MATCHES "Darwin|macOS|iOS|tvOS|visionOS")
            message(FATAL_ERROR "GGML_METAL=ON, but this is ${system}: Metal is Apple's.\n"
                    "  -> GGML_CUDA=ON (NVIDIA), GGML_HIP=ON (AMD), GGML_VULKAN=ON (any GPU), or no option for the CPU")
        endif()
    endif()
endfunction()

# Environment variables of other times and places that would change nothing here.
function(llama_cpp_check_environment)
    if (NOT "$ENV{LLAMA_CPP_LIB}" STREQUAL "" AND NOT LLAMA_CPP_PREBUILT)
        message(FATAL_ERROR "LLAMA_CPP_LIB=$ENV{LLAMA_CPP_LIB} is set, a variable of older versions that nothing reads"
                " today: llama.cpp would be compiled all the same.\n"
                "  -> to wrap finished libraries: -C cmake.define.LLAMA_CPP_PREBUILT=FOLDER, with their lib/ and include/;"
                " to use others at run time: the environment variable LLAMA_CPP_LIB_PATH=FOLDER;"
                " to compile: unset LLAMA_CPP_LIB")
    endif()
    if (NOT "$ENV{SCB_LOCAL_VERSION}" STREQUAL "" AND "$ENV{LLAMA_CPP_VERSION_LABEL}" STREQUAL "")
        message(WARNING "SCB_LOCAL_VERSION=$ENV{SCB_LOCAL_VERSION} is not read here.\n"
                "  -> LLAMA_CPP_VERSION_LABEL=$ENV{SCB_LOCAL_VERSION} puts the label into the version")
    endif()
    foreach (name GGML_CUDA GGML_HIP GGML_METAL GGML_VULKAN GGML_SYCL GGML_OPENCL GGML_BLAS)
        if (NOT "$ENV{${name}}" STREQUAL "" AND NOT DEFINED ${name})
            message(WARNING "${name}=$ENV{${name}} in the environment does nothing: it is an option of CMake.\n"
                    "  -> -C cmake.define.${name}=ON, or CMAKE_ARGS=-D${name}=ON")
        endif()
    endforeach()
endfunction()

# Stops where finished libraries (`names`) lack the module of a backend that was asked for.
function(llama_cpp_check_prebuilt names)
    foreach (backend CUDA HIP METAL VULKAN SYCL OPENCL MUSA CANN RPC BLAS)
        string(TOLOWER "ggml-${backend}" module)
        if (GGML_${backend} AND NOT module IN_LIST names)
            list(JOIN names ", " found)
            message(FATAL_ERROR "GGML_${backend}=ON, but LLAMA_CPP_PREBUILT=${LLAMA_CPP_PREBUILT} has no library ${module}"
                    " (it has ${found}), and nothing is compiled.\n"
                    "  -> name a folder whose llama.cpp was built with GGML_${backend}=ON, or leave the option out")
        endif()
    endforeach()
endfunction()

# Stops where there is nothing to compile.
function(llama_cpp_check_source source)
    if (NOT EXISTS "${source}/CMakeLists.txt")
        message(FATAL_ERROR "There is no source tree of llama.cpp in ${source}.\n"
                "  -> there is no submodule to update: in a checkout run `nox -s vendor`;"
                " with pip or uv add `-C cmake.define.LLAMA_CPP_FETCH=ON` (needs git and the network);"
                " or name a tree of your own with `-C cmake.define.LLAMA_CPP_SOURCE=PATH`")
    endif()
endfunction()

# Leaves the CPU variants that LLAMA_CPP_CPU_VARIANTS does not name out of a list of libraries.
function(llama_cpp_choose_variants list_name)
    set(variants ${${list_name}})
    list(FILTER variants INCLUDE REGEX "^ggml-cpu-")
    list(TRANSFORM LLAMA_CPP_CPU_VARIANTS PREPEND "ggml-cpu-" OUTPUT_VARIABLE chosen)
    foreach (variant IN LISTS chosen)
        if (NOT variant IN_LIST variants)
            list(TRANSFORM variants REPLACE "^ggml-cpu-" "")
            list(JOIN variants " " known)
            string(REPLACE "ggml-cpu-" "" name "${variant}")
            message(FATAL_ERROR "LLAMA_CPP_CPU_VARIANTS names ${name}, which ggml does not have for this compiler.\n"
                    "  -> choose from: ${known}")
        endif()
    endforeach()
    list(REMOVE_ITEM variants ${chosen})
    foreach (variant IN LISTS variants)
        # the target ggml depends on every variant, which cannot be taken back: this one has nothing to compile
        set_target_properties(${variant} PROPERTIES SOURCES "${llama_cpp_folder}/cmake/nothing.c")
    endforeach()
    list(REMOVE_ITEM ${list_name} ${variants})
    set(${list_name} "${${list_name}}" PARENT_SCOPE)
endfunction()
