#include <Python.h>
#include <features.h>

/* The C library that this is compiled for: glibc defines its version, musl defines nothing. */
#ifdef __GLIBC__
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define LIBC "glibc " TEXT(__GLIBC__) "." TEXT(__GLIBC_MINOR__)
#else
#define LIBC "musl"
#endif

static PyObject *answer(PyObject *self, PyObject *unused) { return PyLong_FromLong(42); }

static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, "The answer."}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_answer", NULL, -1, methods};

PyMODINIT_FUNC PyInit__answer(void)
{
    PyObject *result = PyModule_Create(&module);
    if (result && PyModule_AddStringConstant(result, "libc", LIBC) < 0)
        Py_CLEAR(result);
    return result;
}
