# The C++ compiler that a source build needs: whether there is one, and whether it is a 64-bit one.

# Before project(): CMake's own message does not say what to install.
function(llama_cpp_check_compiler)
    if (CMAKE_GENERATOR MATCHES "Visual Studio|Xcode" OR CMAKE_TOOLCHAIN_FILE
            OR CMAKE_CXX_COMPILER OR NOT "$ENV{CXX}" STREQUAL "")
        return()
    endif()
    find_program(found NAMES c++ g++ clang++ cl clang-cl icpx xlC NO_CACHE)
    if (found)
        return()
    endif()
    if (CMAKE_HOST_WIN32)
        set(cure "open the \"x64 Native Tools Command Prompt\" of Visual Studio (with the workload \"Desktop development"
                 " with C++\") and run the command there")
    elseif (CMAKE_HOST_APPLE)
        set(cure "xcode-select --install")
    else()
        set(cure "Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; Alpine: apk add g++")
    endif()
    list(JOIN cure "" cure)
    message(FATAL_ERROR "There is no C++ compiler on PATH, and CXX is not set.\n"
            "  -> ${cure}; a prebuilt wheel needs none: `llama-cpp select` prints its command")
endfunction()

# After project(): `bytes` is the size of a pointer, `python` that of the Python that builds.
function(llama_cpp_check_pointer bytes name)
    if (bytes EQUAL 4)
        message(FATAL_ERROR "The compiler (${name}) makes 32-bit code; llama.cpp is built for 64 bits.\n"
                "  -> on Windows open the \"x64 Native Tools Command Prompt\", not the \"Developer Command Prompt\""
                " (`cl` must say \"for x64\"); elsewhere take -m32 out of CFLAGS and CXXFLAGS")
    endif()
endfunction()
