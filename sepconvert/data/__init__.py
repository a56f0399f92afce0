"""Calibration and test inputs: arrays, image folders and user callables become one ``Dataset``.

``load_data`` reads what ``--data`` names; ``random_inputs`` stands in where there is no data.
"""

from sepconvert.data.dataset import Dataset, count_overlap
from sepconvert.data.load import Data, data_files, load_data
from sepconvert.data.preprocess import Preprocess, parse_preprocess
from sepconvert.data.statistics import input_values
from sepconvert.data.synthetic import random_inputs

__all__ = [
    "Data",
    "Dataset",
    "Preprocess",
    "count_overlap",
    "data_files",
    "input_values",
    "load_data",
    "parse_preprocess",
    "random_inputs",
]
