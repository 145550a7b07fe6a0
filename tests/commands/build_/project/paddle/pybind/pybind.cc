#include <Python.h>

#include "paddle/common/errors.h"
#include "paddle/phi/kernels.h"

static PyObject* Add(PyObject*, PyObject* args) {
  double x, y;
  if (!PyArg_ParseTuple(args, "dd", &x, &y)) return nullptr;
  return PyFloat_FromDouble(phi::Add(x, y));
}

static PyObject* Describe(PyObject*, PyObject* args) {
  int code;
  if (!PyArg_ParseTuple(args, "i", &code)) return nullptr;
  return PyUnicode_FromString(common::Describe(code).c_str());
}

static PyMethodDef methods[] = {{"add", Add, METH_VARARGS, nullptr},
                                {"describe", Describe, METH_VARARGS, nullptr},
                                {nullptr, nullptr, 0, nullptr}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "libpaddle", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_libpaddle() { return PyModule_Create(&module); }
