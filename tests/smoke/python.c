/* Starts the Python that is in a DLL beside this program: what an installation's python.exe does.
 *
 * PYTHON_DLL is the DLL's name, given to the compiler: -DPYTHON_DLL=L\"python311.dll\"
 */
#include <windows.h>

typedef int (*main_t)(int, wchar_t **);

int wmain(int argc, wchar_t ** argv) {
    HMODULE python =
        LoadLibraryExW(PYTHON_DLL, NULL, LOAD_LIBRARY_SEARCH_APPLICATION_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32);
    main_t start = python == NULL ? NULL : (main_t) (void *) GetProcAddress(python, "Py_Main");
    return start == NULL ? 103 : start(argc, argv);
}
