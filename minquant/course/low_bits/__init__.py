"""Lesson 11: how low can you go?"""
