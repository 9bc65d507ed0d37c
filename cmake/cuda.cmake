# The CUDA toolkit: where nvcc is, which host compilers and which architectures it takes. What it takes
# is asked of the toolkit itself (crt/host_config.h, --list-gpu-arch), so that no table here goes stale.

set(llama_cpp_no_toolkit_needed "a prebuilt wheel needs no toolkit: `llama-cpp select` prints its command")
# the first toolkit with each architecture, for the cure alone
set(llama_cpp_first_cuda 80=11.0 86=11.1 87=11.4 89=11.8 90=11.8 100=12.8 101=12.8 120=12.8 103=12.9 121=12.9 110=13.0)

# where installers of the toolkit put it, besides PATH and CUDA_PATH, which CMake looks at itself
set(LLAMA_CPP_CUDA_FOLDERS /usr/local/cuda /opt/cuda "/usr/local/cuda-*"
    "C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/v*" CACHE STRING "Folders to look for a CUDA toolkit in")

# Finds nvcc and leaves it in CMAKE_CUDA_COMPILER; stops where there is none, or not where it was named.
macro(llama_cpp_find_nvcc)
    llama_cpp_named_nvcc(CMAKE_CUDA_COMPILER "${CMAKE_CUDA_COMPILER}")
    if (NOT CMAKE_CUDA_COMPILER)
        llama_cpp_named_nvcc(CUDACXX "$ENV{CUDACXX}")
    endif()
    if (NOT CMAKE_CUDA_COMPILER AND "$ENV{CUDACXX}" STREQUAL "")
        llama_cpp_search_nvcc(llama_cpp_nvcc)
        set(CMAKE_CUDA_COMPILER "${llama_cpp_nvcc}" CACHE FILEPATH "CUDA compiler")
        find_program(llama_cpp_nvcc_on_path nvcc NO_CACHE)
        if (NOT llama_cpp_nvcc STREQUAL llama_cpp_nvcc_on_path AND NOT DEFINED CUDAToolkit_ROOT)
            # else FindCUDAToolkit could take the headers of another one
            get_filename_component(llama_cpp_nvcc_root "${llama_cpp_nvcc}/../.." ABSOLUTE)
            set(CUDAToolkit_ROOT "${llama_cpp_nvcc_root}" CACHE PATH "Folder of the CUDA toolkit")
        endif()
    endif()
endmacro()

# Stops unless `value`, which came from `variable`, is empty or names a program.
function(llama_cpp_named_nvcc variable value)
    if (value STREQUAL "" OR EXISTS "${value}" AND NOT IS_DIRECTORY "${value}")
        return()
    endif()
    # flags may follow: CUDACXX="/usr/bin/nvcc -ccbin g++-12"
    get_filename_component(program "${value}" PROGRAM)
    if (program AND NOT IS_DIRECTORY "${program}")
        return()
    endif()
    set(why "it does not exist")
    if (IS_DIRECTORY "${value}")
        set(why "it is a folder")
    endif()
    message(FATAL_ERROR "${variable}=${value} names no CUDA compiler: ${why}.\n"
            "  -> In CMAKE_ARGS a path ends at its first space, and backslashes vanish: write forward slashes and quote it,"
            " CMAKE_ARGS='-DCMAKE_CUDA_COMPILER=\"C:/Path With Spaces/bin/nvcc.exe\"', or give it apart from the others,"
            " CUDACXX=C:/Path With Spaces/bin/nvcc.exe; where nvcc is on PATH or in CUDA_PATH, name none.")
endfunction()

function(llama_cpp_search_nvcc result)
    set(looked "")
    foreach (variable CUDAToolkit_ROOT CUDA_PATH CUDA_HOME)
        set(folder "$ENV{${variable}}")
        if (DEFINED ${variable})
            set(folder "${${variable}}")
        endif()
        if (folder STREQUAL "")
            list(APPEND looked "${variable} (not set)")
            continue()
        endif()
        file(TO_CMAKE_PATH "${folder}" folder)
        find_program(nvcc nvcc PATHS "${folder}/bin" NO_DEFAULT_PATH NO_CACHE)
        if (nvcc)
            set(${result} "${nvcc}" PARENT_SCOPE)
            return()
        endif()
        list(APPEND looked "${variable} (${folder}/bin has no nvcc)")
    endforeach()
    list(APPEND looked "PATH")
    find_program(nvcc nvcc NO_CACHE)
    if (NOT nvcc)
        foreach (folder IN LISTS LLAMA_CPP_CUDA_FOLDERS)
            file(GLOB found "${folder}")
            list(SORT found COMPARE NATURAL ORDER DESCENDING)
            list(TRANSFORM found APPEND "/bin")
            find_program(nvcc nvcc PATHS ${found} NO_DEFAULT_PATH NO_CACHE)
            list(APPEND looked "${folder}")
        endforeach()
    endif()
    if (NOT nvcc)
        list(JOIN looked ", " looked)
        message(FATAL_ERROR "GGML_CUDA=ON, but there is no CUDA compiler (nvcc). Looked at: CMAKE_CUDA_COMPILER (not set),"
                " CUDACXX (not set), ${looked}.\n"
                "  -> install the CUDA toolkit (the driver alone has no compiler), or say where it is:"
                " CUDA_PATH=/usr/local/cuda-12.8, or CUDACXX=/usr/local/cuda-12.8/bin/nvcc;"
                " ${llama_cpp_no_toolkit_needed}")
    endif()
    set(${result} "${nvcc}" PARENT_SCOPE)
endfunction()

# What `nvcc` says of itself: its version (nothing for clang), the architectures that it makes code for,
# and the text of its header that names the host compilers it takes.
function(llama_cpp_ask_nvcc nvcc version_result architectures_result config_result)
    execute_process(COMMAND "${nvcc}" --version OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE status)
    if (NOT status EQUAL 0)
        string(STRIP "${text}" text)
        message(FATAL_ERROR "${nvcc} --version fails (${status}): ${text}\n"
                "  -> name a working CUDA compiler in CUDACXX; ${llama_cpp_no_toolkit_needed}")
    endif()
    set(version "")
    if (text MATCHES "release ([0-9]+[.][0-9]+)")
        set(version "${CMAKE_MATCH_1}")
    endif()
    execute_process(COMMAND "${nvcc}" --list-gpu-arch OUTPUT_VARIABLE text ERROR_QUIET)
    string(REGEX MATCHALL "compute_[0-9]+" architectures "${text}")
    list(TRANSFORM architectures REPLACE "compute_" "")
    list(SORT architectures COMPARE NATURAL)
    # what is on PATH may be a link, or a script that starts the real one somewhere else
    get_filename_component(real "${nvcc}" REALPATH)
    execute_process(COMMAND "${nvcc}" --dryrun -c none.cu OUTPUT_VARIABLE steps ERROR_VARIABLE steps)
    set(top "")
    if (steps MATCHES "TOP=([^\r\n]+)")
        file(TO_CMAKE_PATH "${CMAKE_MATCH_1}" top)
    endif()
    set(config "")
    foreach (root "${top}" "${real}/../.." "${nvcc}/../..")
        get_filename_component(root "${root}" ABSOLUTE)
        file(GLOB headers "${root}/include/crt/host_config.h" "${root}/targets/*/include/crt/host_config.h")
        if (headers AND NOT config)
            list(GET headers 0 header)
            file(READ "${header}" config)
        endif()
    endforeach()
    set(${version_result} "${version}" PARENT_SCOPE)
    set(${architectures_result} "${architectures}" PARENT_SCOPE)
    set(${config_result} "${config}" PARENT_SCOPE)
endfunction()

# Stops at what is no architecture, or none of those that CUDA `version` can make code for (`known`).
function(llama_cpp_check_architectures architectures version known)
    set(bad "")
    set(new "")
    set(dropped "")
    foreach (item IN LISTS architectures)
        if (item MATCHES "^(native|all|all-major)(-real|-virtual)?$")
            continue()
        elseif (NOT item MATCHES "^([0-9]+)[af]?(-real|-virtual)?$")
            list(APPEND bad "${item}")
        elseif (known AND NOT CMAKE_MATCH_1 IN_LIST known)
            list(GET known 0 oldest)
            if (CMAKE_MATCH_1 LESS oldest)
                list(APPEND dropped "${CMAKE_MATCH_1}")
            else()
                list(APPEND new "${CMAKE_MATCH_1}")
            endif()
        endif()
    endforeach()
    list(JOIN known " " known)
    if (bad)
        list(JOIN bad " " bad)
        message(FATAL_ERROR "CMAKE_CUDA_ARCHITECTURES has what is no architecture: ${bad}\n"
                "  -> whole numbers, separated by semicolons: 89 for compute capability 8.9 and sm_89,"
                " -DCMAKE_CUDA_ARCHITECTURES=\"86;89;120\"")
    endif()
    if (new)
        set(cures "")
        foreach (item IN LISTS new)
            foreach (pair IN LISTS llama_cpp_first_cuda)
                if (pair MATCHES "^${item}=(.+)$")
                    list(APPEND cures "${item} needs CUDA ${CMAKE_MATCH_1} or newer")
                endif()
            endforeach()
        endforeach()
        if (NOT cures)
            set(cures "a newer CUDA toolkit may know it")
        endif()
        list(JOIN cures ", " cures)
        list(JOIN new " " new)
        message(FATAL_ERROR "CUDA ${version} cannot make code for ${new}; it knows ${known}.\n"
                "  -> ${cures}; or leave it out: `nvidia-smi --query-gpu=compute_cap --format=csv,noheader` says what your"
                " GPU is (8.9 is 89); ${llama_cpp_no_toolkit_needed}")
    endif()
    if (dropped)
        list(JOIN dropped " " dropped)
        message(FATAL_ERROR "CUDA ${version} no longer makes code for ${dropped}; it knows ${known}.\n"
                "  -> an older toolkit for older GPUs (CUDA 12 is the last below 75), or leave it out;"
                " ${llama_cpp_no_toolkit_needed}")
    endif()
endfunction()

# Stops where the toolkit's own header, whose text is `config`, would refuse the host compiler.
# `kind`: GNU, Clang or MSVC; `release`: its version; `flags`: all that nvcc is given.
function(llama_cpp_check_host_compiler kind release config version flags)
    string(REGEX MATCH "^[0-9]+" major "${release}")
    set(most "")
    set(least "")
    if (kind STREQUAL "GNU" AND config MATCHES "#if __GNUC__ > ([0-9]+)")
        set(most ${CMAKE_MATCH_1})
        set(cure "take g++ ${most}: -C cmake.define.CMAKE_CUDA_HOST_COMPILER=g++-${most} (Debian, Ubuntu: apt install g++-${most})")
    elseif (kind STREQUAL "Clang" AND config MATCHES "__clang_major__ >= ([0-9]+)")
        math(EXPR most "${CMAKE_MATCH_1} - 1")
        set(cure "take clang ${most}: -C cmake.define.CMAKE_CUDA_HOST_COMPILER=clang++-${most}")
    elseif (kind STREQUAL "MSVC" AND config MATCHES "#if _MSC_VER < ([0-9]+) [|][|] _MSC_VER >= ([0-9]+)")
        set(least ${CMAKE_MATCH_1})
        math(EXPR most "${CMAKE_MATCH_2} - 1")
        # 19.44.35208 is _MSC_VER 1944
        if (release MATCHES "^([0-9]+)[.]([0-9])([0-9])?")
            set(major "${CMAKE_MATCH_1}${CMAKE_MATCH_2}${CMAKE_MATCH_3}")
        endif()
        string(REGEX REPLACE "^(..)(..)$" "\\1.\\2" newest "${most}")
        string(REGEX REPLACE "^(..)(..)$" "\\1.\\2" oldest "${least}")
        set(cure "in the Visual Studio installer add the build tools of an MSVC from ${oldest} to ${newest} and open their"
                 " prompt (vcvarsall.bat x64 -vcvars_ver=14.4), or install a newer CUDA toolkit")
        list(JOIN cure "" cure)
    endif()
    if (NOT most OR NOT major GREATER most AND NOT (least AND major LESS least))
        return()
    endif()
    set(what "CUDA ${version} does not take ${kind} ${release} as its host compiler")
    if (flags MATCHES "-allow-unsupported-compiler")
        message(WARNING "${what}; -allow-unsupported-compiler was given, so it is tried.\n"
                "  -> should kernels fail to compile or compute nonsense: ${cure}")
        return()
    endif()
    message(FATAL_ERROR "${what}.\n"
            "  -> ${cure}; at your own risk, -C cmake.define.CMAKE_CUDA_FLAGS=-allow-unsupported-compiler;"
            " ${llama_cpp_no_toolkit_needed}")
endfunction()

# On Linux: which program nvcc would call, and its version. nvcc calls the gcc on PATH, not CMake's compiler.
function(llama_cpp_check_cuda_host config version)
    set(flags "${CMAKE_CUDA_FLAGS} $ENV{CUDAFLAGS} $ENV{NVCC_PREPEND_FLAGS} $ENV{NVCC_APPEND_FLAGS}")
    if (flags MATCHES "-ccbin|--compiler-bindir")
        return()
    endif()
    set(host gcc)
    foreach (named "${CMAKE_CUDA_HOST_COMPILER}" "$ENV{CUDAHOSTCXX}" "$ENV{NVCC_CCBIN}")
        if (host STREQUAL "gcc" AND NOT named STREQUAL "")
            set(host "${named}")
        endif()
    endforeach()
    find_program(program "${host}" NO_CACHE)
    if (NOT program)
        message(FATAL_ERROR "nvcc compiles its host code with ${host}, which is not on PATH.\n"
                "  -> install it (Debian, Ubuntu: apt install g++), or name another:"
                " -C cmake.define.CMAKE_CUDA_HOST_COMPILER=clang++")
    endif()
    execute_process(COMMAND "${program}" --version OUTPUT_VARIABLE text ERROR_QUIET)
    if (text MATCHES "clang version ([0-9.]+)")
        llama_cpp_check_host_compiler(Clang "${CMAKE_MATCH_1}" "${config}" "${version}" "${flags}")
    elseif (text MATCHES "^[^\n]*[ )]([0-9]+[.][0-9]+[.][0-9]+)")
        llama_cpp_check_host_compiler(GNU "${CMAKE_MATCH_1}" "${config}" "${version}" "${flags}")
    endif()
endfunction()

# `toolset` is the version of the CUDA integration that Visual Studio has, or nothing.
function(llama_cpp_check_toolset generator toolset)
    if (generator MATCHES "Visual Studio" AND "${toolset}" STREQUAL "")
        message(FATAL_ERROR "GGML_CUDA=ON with the generator \"${generator}\", which has no CUDA toolset: the CUDA toolkit was"
                " installed before Visual Studio, or without its \"Visual Studio Integration\".\n"
                "  -> build with Ninja, which needs neither: set CMAKE_GENERATOR=Ninja in an"
                " \"x64 Native Tools Command Prompt\" (pip brings ninja)")
    endif()
endfunction()

# Before project(): all that can be known of a CUDA build without a compiler run.
macro(llama_cpp_check_cuda)
    set(llama_cpp_cuda_version "")
    set(llama_cpp_cuda_config "")
    if (NOT CMAKE_GENERATOR MATCHES "Visual Studio")
        llama_cpp_find_nvcc()
        set(llama_cpp_nvcc "${CMAKE_CUDA_COMPILER}")
        if (NOT llama_cpp_nvcc)
            # the flags that may follow are CMake's business
            get_filename_component(llama_cpp_nvcc "$ENV{CUDACXX}" PROGRAM)
        endif()
        llama_cpp_ask_nvcc("${llama_cpp_nvcc}" llama_cpp_cuda_version llama_cpp_cuda_known llama_cpp_cuda_config)
        if (DEFINED CMAKE_CUDA_ARCHITECTURES)
            set(llama_cpp_cuda_asked "${CMAKE_CUDA_ARCHITECTURES}")
        else()
            set(llama_cpp_cuda_asked "$ENV{CUDAARCHS}")
        endif()
        llama_cpp_check_architectures("${llama_cpp_cuda_asked}" "${llama_cpp_cuda_version}" "${llama_cpp_cuda_known}")
        if (NOT CMAKE_HOST_WIN32)
            llama_cpp_check_cuda_host("${llama_cpp_cuda_config}" "${llama_cpp_cuda_version}")
        endif()
    endif()
endmacro()

# After project(): what Visual Studio's compiler and generator have to do with CUDA.
macro(llama_cpp_check_cuda_windows)
    llama_cpp_check_toolset("${CMAKE_GENERATOR}" "${CMAKE_VS_PLATFORM_TOOLSET_CUDA}")
    if (MSVC)
        llama_cpp_check_host_compiler(MSVC "${CMAKE_CXX_COMPILER_VERSION}" "${llama_cpp_cuda_config}"
            "${llama_cpp_cuda_version}" "${CMAKE_CUDA_FLAGS} $ENV{CUDAFLAGS} $ENV{NVCC_PREPEND_FLAGS}")
    endif()
endmacro()
