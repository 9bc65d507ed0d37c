/* The linker of a MinGW target shows every symbol of a DLL to others, also those of the C runtime that is
 * linked into each: a library that needs another one would find them twice. These stay inside. */
__asm__(
    ".section .drectve,\"yni\"\n"
    ".ascii \" -exclude-symbols:atexit,_CRT_INIT,__mingw_module_is_dll,__unw_getcontext\"\n");
