"""Task modules that are awkward to import."""
